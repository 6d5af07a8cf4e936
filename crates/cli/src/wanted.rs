//! Which volume somebody means: by its id, by its key, or by the beginning of its key.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use volumes::{VolumeKey, VolumeName, VolumeRecord};

use crate::failure::{Failure, Kind};
use crate::place::Place;

/// The fewest digits of a key that are taken for one.
const FEWEST: usize = 4;

/// What somebody calls a volume.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub namespace: &'a str,
    pub text: &'a OsStr,
}

impl Wanted<'_> {
    /// Returns the name that has the text for its id.
    pub(crate) fn name(&self) -> Result<VolumeName, Failure> {
        VolumeName::new(self.namespace, self.text.as_bytes())
            .map_err(|error| Failure::new(Kind::Usage, error.to_string()))
    }

    /// Does `work` to the volume that is meant. An id goes before a key, and is tried without a look at
    /// all volumes, which may be many.
    pub(crate) async fn with<T>(
        &self,
        place: &dyn Place,
        work: impl AsyncFn(VolumeKey) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let first = self.name()?.key();
        match work(first).await {
            Err(failure) if failure.kind() == Kind::NotFound => {
                let key = self.among(&place.list().await?)?;
                if key == first { Err(failure) } else { work(key).await }
            }
            done => done,
        }
    }

    fn among(&self, records: &[VolumeRecord]) -> Result<VolumeKey, Failure> {
        let exact = self.name()?.key();
        if records.iter().any(|record| record.key == exact) {
            return Ok(exact);
        }
        let found: Vec<&VolumeRecord> =
            records.iter().filter(|record| self.may_mean(&record.name, record.key)).collect();
        match found[..] {
            [] => {
                let text = format!("no volume `{}/{}`", self.namespace, self.text.display());
                Err(Failure::new(Kind::NotFound, text))
            }
            [only] => Ok(only.key),
            ref several => {
                let keys: Vec<_> = several.iter().map(|one| one.key.to_string()).collect();
                let (text, keys) = (self.text.display(), keys.join(", "));
                let text =
                    format!("`{text}` may mean several volumes: name one by its key: {keys}");
                Err(Failure::new(Kind::Usage, text))
            }
        }
    }

    fn may_mean(&self, name: &VolumeName, key: VolumeKey) -> bool {
        let bytes = self.text.as_bytes();
        let by_id = name.namespace() == self.namespace && name.id() == bytes;
        by_id || (bytes.len() >= FEWEST && key.to_string().as_bytes().starts_with(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use digests::Digest;
    use volumes::{Form, Policy, PolicyPatch, Space, VariantKey};

    use super::*;

    fn record(id: &str, seed: Option<&str>) -> VolumeRecord {
        let name = VolumeName::new("default", id).unwrap();
        let name = match seed {
            Some(seed) => name.with_variant(VariantKey::new(Digest::of(seed))),
            None => name,
        };
        VolumeRecord {
            key: name.key(),
            name,
            space: Space::default(),
            form: Form::Plain,
            created: SystemTime::UNIX_EPOCH,
            last_used: None,
            uses: 0,
            leases: Vec::new(),
            waiting: Vec::new(),
            head: 1,
            versions: Vec::new(),
            policy: Policy::default(),
            decided: PolicyPatch::default(),
        }
    }

    fn meant(text: &str, records: &[VolumeRecord]) -> Result<VolumeKey, Failure> {
        Wanted { namespace: "default", text: text.as_ref() }.among(records)
    }

    #[test]
    fn an_id_goes_before_the_beginning_of_a_key() {
        let other = record("other", None);
        let beginning = other.key.to_string()[..8].to_owned();
        let named_like_a_key = record(&beginning, None);
        let records = [other.clone(), named_like_a_key.clone()];
        assert_eq!(meant(&beginning, &records).unwrap(), named_like_a_key.key);
        assert_eq!(meant(&beginning, &records[..1]).unwrap(), other.key);
        assert_eq!(meant(&other.key.to_string(), &records).unwrap(), other.key);
    }

    #[test]
    fn a_seeded_volume_is_meant_by_its_id_if_it_is_the_only_one() {
        let (one, two) = (record("v", Some("a")), record("v", Some("b")));
        assert_eq!(meant("v", std::slice::from_ref(&one)).unwrap(), one.key);
        let refused = meant("v", &[one.clone(), two.clone()]).unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
        assert!(refused.text().contains(&two.key.to_string()), "{}", refused.text());
        let plain = record("v", None);
        assert_eq!(meant("v", &[one, two, plain.clone()]).unwrap(), plain.key);
    }

    #[test]
    fn what_nothing_is_called_is_not_found() {
        let refused = meant("nothing", &[record("v", None)]).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.text().as_str()),
            (Kind::NotFound, "no volume `default/nothing`")
        );
        assert_eq!(meant("", &[record("v", None)]).unwrap_err().kind(), Kind::NotFound);
    }
}
