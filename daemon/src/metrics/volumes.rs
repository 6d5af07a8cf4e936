//! Numbers of each cache volume: what it is when somebody asks, and what has happened to it since the
//! daemon began.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use volumes::{VolumeError, VolumeEvent, VolumeManager, VolumeName, VolumeObserver, VolumeRecord};

/// The digits of a variant that are shown, as everywhere else.
const VARIANT_DIGITS: usize = 12;

/// Which volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    namespace: String,
    id: String,
    /// Tells volumes of one id and of different seeds apart; empty for none.
    variant: String,
}

impl Labels {
    fn of(name: &VolumeName) -> Self {
        let shown = |digest: digests::Digest| digest.hex()[..VARIANT_DIGITS].to_owned();
        let variant = name.variant().map(|key| shown(key.digest())).unwrap_or_default();
        Self { namespace: name.namespace().to_owned(), id: name.shown_id(), variant }
    }
}

type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;

/// The numbers of all volumes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct VolumeMetrics {
    size: Gauges,
    inodes: Gauges,
    versions: Gauges,
    leases: Gauges,
    waiting: Gauges,
    uses: Gauges,
    waits: Counters,
    wait_seconds: Family<Labels, Counter<f64, AtomicU64>>,
    forks: Counters,
    publishes: Counters,
    discards: Counters,
    evictions: Counters,
}

impl VolumeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("volume");
        let about = "Disk that a volume takes, all versions together";
        registry.register_with_unit("size", about, Unit::Bytes, self.size.clone());
        for (name, help, gauge) in [
            ("inodes", "Files and directories of a volume, all versions together", &self.inodes),
            ("versions", "Versions of a volume that are kept", &self.versions),
            ("leases", "Leases of a volume that are held now", &self.leases),
            ("waiting", "Steps that wait for a volume now", &self.waiting),
            ("uses", "Leases of a volume that have ever ended", &self.uses),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            ("waits", "Waits for a volume that are over", &self.waits),
            ("forks", "Leases that began with a layer or copy of their own", &self.forks),
            ("publishes", "Layers that became the head of a volume", &self.publishes),
            ("discards", "Layers that were thrown away", &self.discards),
            ("evictions", "Removals of a volume to make space", &self.evictions),
        ] {
            registry.register(name, help, counter.clone());
        }
        let about = "Time spent waiting for a volume";
        registry.register_with_unit("wait", about, Unit::Seconds, self.wait_seconds.clone());
    }

    /// Looks at all volumes.
    pub(super) async fn gather(&self, volumes: &VolumeManager) -> Result<(), VolumeError> {
        let records = volumes.list().await?;
        for family in
            [&self.size, &self.inodes, &self.versions, &self.leases, &self.waiting, &self.uses]
        {
            // A volume that is gone has no size, not that which it had.
            family.clear();
        }
        records.iter().for_each(|record| self.show(record));
        Ok(())
    }

    fn show(&self, record: &VolumeRecord) {
        let labels = Labels::of(&record.name);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (family, number) in [
            (&self.size, record.space.bytes),
            (&self.inodes, record.space.inodes),
            (&self.versions, count(record.versions.len())),
            (&self.leases, count(record.leases.len())),
            (&self.waiting, count(record.waiting.len())),
            (&self.uses, record.uses),
        ] {
            family.get_or_create(&labels).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}

impl VolumeObserver for VolumeMetrics {
    fn observe(&self, volume: &VolumeName, event: VolumeEvent) {
        let labels = Labels::of(volume);
        let counters = match event {
            VolumeEvent::Waited(time) => {
                self.wait_seconds.get_or_create(&labels).inc_by(time.as_secs_f64());
                &self.waits
            }
            VolumeEvent::Forked => &self.forks,
            VolumeEvent::Published(_) => &self.publishes,
            VolumeEvent::Discarded => &self.discards,
            VolumeEvent::Evicted => &self.evictions,
            _ => return,
        };
        counters.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;
    use volumes::Origin;

    use super::*;

    #[test]
    fn what_happens_is_counted_for_the_volume_it_happens_to() {
        let (metrics, mut registry) = (VolumeMetrics::default(), Registry::with_prefix("larder"));
        metrics.register(&mut registry);
        let [a, b] = ["a", "quote\"d"].map(|id| VolumeName::new("n", id).unwrap());
        metrics.observe(&a, VolumeEvent::Waited(Duration::from_millis(1500)));
        metrics.observe(&a, VolumeEvent::Waited(Duration::from_millis(500)));
        metrics.observe(&a, VolumeEvent::Forked);
        metrics.observe(&b, VolumeEvent::Published(Origin::Published));
        metrics.observe(&b, VolumeEvent::Discarded);
        metrics.observe(&b, VolumeEvent::Evicted);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"larder_volume_waits_total{namespace="n",id="a",variant=""} 2"#,
            r#"larder_volume_wait_seconds_total{namespace="n",id="a",variant=""} 2.0"#,
            r#"larder_volume_forks_total{namespace="n",id="a",variant=""} 1"#,
            r#"larder_volume_publishes_total{namespace="n",id="quote\"d",variant=""} 1"#,
            r#"larder_volume_discards_total{namespace="n",id="quote\"d",variant=""} 1"#,
            r#"larder_volume_evictions_total{namespace="n",id="quote\"d",variant=""} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
