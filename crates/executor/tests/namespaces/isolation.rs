//! What a process cannot see or do, and what it can.

use anyhow::ensure;
use executor::{ExtraHost, Network, Resources, SandboxNetwork, Security, UserSpec};

use crate::fixture::Fixture;
use crate::{Case, Outcome, cases};

pub(crate) const CASES: &[Case] = cases![
    without_a_network_there_is_only_loopback,
    the_hosts_network_is_there_when_asked_for,
    a_process_sees_only_its_own,
    capabilities_are_the_default_ones,
    a_user_has_no_capabilities_but_may_gain_them,
    an_insecure_process_has_everything,
    dangerous_calls_are_refused,
    kernel_files_are_hidden_or_read_only,
    devices_are_the_usual_ones_and_no_others_open,
    names_are_resolved_as_described,
    memory_is_limited,
];

async fn without_a_network_there_is_only_loopback() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec =
        fixture.shell("ls /sys/class/net; cat /proc/net/dev | wc -l; ip -o link; ip -o addr");
    spec.network = Network::None;
    let done = fixture.run(spec).await?;
    ensure!(done.stdout.starts_with("lo\n3\n"), "{done:?}");
    ensure!(done.stdout.contains("LOOPBACK,UP") && done.stdout.contains("127.0.0.1/8"), "{done:?}");
    let fixture = Fixture::with(|config| config.sandbox_network = SandboxNetwork::None).await?;
    ensure!(fixture.output("ls /sys/class/net").await? == "lo\n");
    Ok(())
}

async fn the_hosts_network_is_there_when_asked_for() -> Outcome {
    let fixture = Fixture::new().await?;
    let ours = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    for network in [Network::Host, Network::Sandbox] {
        let mut spec = fixture.shell("readlink /proc/self/ns/net");
        spec.network = network;
        let done = fixture.run(spec).await?;
        ensure!(done.stdout.trim() == ours, "{network:?}: {done:?}");
    }
    Ok(())
}

async fn a_process_sees_only_its_own() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut others = Vec::new();
    for namespace in ["mnt", "pid", "ipc", "uts"] {
        others
            .push(std::fs::read_link(format!("/proc/self/ns/{namespace}"))?.display().to_string());
    }
    let script = "for n in mnt pid ipc uts; do readlink /proc/self/ns/$n; done; \
        ls -d /proc/[0-9]* | wc -l; ls /proc/self/fd | wc -l; cat /proc/mounts";
    let said = fixture.output(script).await?;
    ensure!(others.iter().all(|other| !said.contains(other.as_str())), "{said}");
    let mut lines = said.lines().skip(4);
    // The shell, `ls` and `wc`.
    let processes: u32 = lines.next().unwrap_or_default().trim().parse()?;
    ensure!(processes <= 3, "{said}");
    // The three streams, and the directory that is listed.
    ensure!(lines.next().map(str::trim) == Some("4"), "{said}");
    ensure!(lines.next().is_some_and(|line| line.starts_with("overlay / ")), "{said}");
    ensure!(lines.all(|line| !line.contains("ext4") && !line.contains("scratch")), "{said}");
    Ok(())
}

async fn capabilities_are_the_default_ones() -> Outcome {
    let fixture = Fixture::new().await?;
    let said = fixture.output("grep Cap /proc/self/status").await?;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
    ] {
        ensure!(said.contains(line), "{line}: {said}");
    }
    Ok(())
}

async fn a_user_has_no_capabilities_but_may_gain_them() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("grep -E 'Cap|NoNew' /proc/self/status");
    spec.user = UserSpec::new("ann");
    let said = fixture.run(spec).await?.stdout;
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t0",
    ] {
        ensure!(said.contains(line), "{line}: {said}");
    }
    Ok(())
}

async fn an_insecure_process_has_everything() -> Outcome {
    let fixture = Fixture::new().await?;
    let ours = std::fs::read_to_string("/proc/self/status")?;
    let ours = ours.lines().find(|line| line.starts_with("CapBnd")).unwrap_or_default().to_owned();
    let script = "grep -E 'Cap|Seccomp:' /proc/self/status; mkdir /m; mount -t tmpfs x /m && \
        echo mounted; test -e /dev/kmsg && echo kmsg; echo 1 > /proc/sys/kernel/domainname; \
        test -e /dev/loop0 && echo loop";
    let mut spec = fixture.shell(script);
    spec.security = Security::Insecure;
    let done = fixture.run(spec).await?;
    for line in [&ours, "Seccomp:\t0", "mounted", "kmsg", "loop"] {
        ensure!(done.stdout.contains(line), "{line}: {done:?}");
    }
    ensure!(done.stderr.is_empty(), "{done:?}");
    Ok(())
}

async fn dangerous_calls_are_refused() -> Outcome {
    let fixture = Fixture::new().await?;
    ensure!(fixture.output("grep Seccomp: /proc/self/status").await? == "Seccomp:\t2\n");
    for script in [
        "unshare -U true",
        "unshare -n true",
        "mkdir /m; mount -t tmpfs x /m",
        "mount -o remount,rw /sys",
        "umount /proc",
        "hostname other",
    ] {
        let done = fixture.run(fixture.shell(script)).await?;
        ensure!(!done.status.success(), "{script}: {done:?}");
        ensure!(
            done.stderr.contains("not permitted") || done.stderr.contains("denied"),
            "{done:?}"
        );
    }
    Ok(())
}

async fn kernel_files_are_hidden_or_read_only() -> Outcome {
    let fixture = Fixture::new().await?;
    let said =
        fixture.output("cat /proc/kcore /proc/keys | wc -c; ls /sys/firmware | wc -l").await?;
    ensure!(said.split_whitespace().eq(["0", "0"]), "{said}");
    for script in [
        "echo 1 > /proc/sys/kernel/domainname",
        "echo 1 > /proc/irq/default_smp_affinity",
        "mkdir /sys/x",
        "mkdir /sys/fs/cgroup/x",
        "mkdir /sys/firmware/x",
    ] {
        let done = fixture.run(fixture.shell(script)).await?;
        ensure!(done.stderr.contains("Read-only file system"), "{script}: {done:?}");
    }
    Ok(())
}

async fn devices_are_the_usual_ones_and_no_others_open() -> Outcome {
    let fixture = Fixture::new().await?;
    let said = fixture.output("ls /dev").await?;
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let core = std::path::Path::new("/proc/kcore").exists().then_some("core");
    ensure!(said.split_whitespace().eq(core.into_iter().chain(expected.split(' '))), "{said}");
    let script = "head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/null; \
        stat -c %a /dev/null /dev/shm; echo y > /dev/shm/y; cat /dev/shm/y; test -c /dev/ptmx; echo $?";
    let said = fixture.output(script).await?;
    ensure!(said.split_whitespace().eq(["3", "5", "666", "1777", "y", "0"]), "{said}");
    // Making a node is allowed, as packages do it; opening it is not.
    let rest = "mknod /tmp/d c 1 5 && mknod /dev/d c 1 5; cat /tmp/d; cat /dev/d";
    let done = fixture.run(fixture.shell(rest)).await?;
    ensure!(done.stderr.matches("Permission denied").count() == 2, "{done:?}");
    // What a process does to its own nodes does not reach the host's.
    fixture.output("chmod 600 /dev/null").await?;
    let host = std::fs::metadata("/dev/null")?;
    ensure!(std::os::unix::fs::PermissionsExt::mode(&host.permissions()) & 0o777 == 0o666);
    Ok(())
}

async fn names_are_resolved_as_described() -> Outcome {
    let fixture = Fixture::with(|config| {
        config.dns.nameservers = vec!["192.0.2.1".to_owned()];
        config.dns.search = vec!["example.test".to_owned()];
    })
    .await?;
    let mut spec = fixture.shell("hostname; cat /etc/hosts /etc/resolv.conf; echo x >> /etc/hosts");
    spec.hostname = Some("box".to_owned());
    spec.extra_hosts = vec![ExtraHost { name: "db".to_owned(), address: "192.0.2.7".parse()? }];
    let done = fixture.run(spec).await?;
    for line in [
        "box\n",
        "127.0.0.1\tlocalhost box\n",
        "192.0.2.7\tdb\n",
        "nameserver 192.0.2.1\n",
        "search example.test\n",
    ] {
        ensure!(done.stdout.contains(line), "{line}: {done:?}");
    }
    ensure!(done.stderr.contains("Read-only"), "{done:?}");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}

async fn memory_is_limited() -> Outcome {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let controlled = mounts.contains("- cgroup cgroup rw,memory")
        || std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|controllers| controllers.contains("memory"));
    if !controlled {
        println!("  (this machine limits no memory)");
        return Ok(());
    }
    let fixture = Fixture::new().await?;
    let mut spec = fixture.spec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    spec.resources = Resources { memory: Some(32 << 20), ..Resources::default() };
    let done = fixture.run(spec).await?;
    ensure!(done.status == executor::ExitStatus::OutOfMemory, "{done:?}");
    Ok(())
}
