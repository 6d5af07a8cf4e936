//! What is mounted, where, and what is left of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use anyhow::ensure;
use executor::{ExecutorError, GuestMount, SecretBytes, SetupError, StubRemoval};
use mount::{GuestPath, Mount, MountSource};

use crate::fixture::{Fixture, guest};
use crate::{Case, Outcome, cases};

pub(crate) const CASES: &[Case] = cases![
    the_root_is_written_to_its_layer,
    a_read_only_root_is_read_only_and_still_mounted_on,
    a_layer_has_nothing_that_only_mounts_needed,
    a_directory_that_was_renamed_is_whole_in_its_layer,
    a_directory_can_be_the_root,
    binds_and_their_parts,
    a_part_of_an_overlay,
    memory_has_its_limit_and_mode,
    a_secret_is_a_file_in_memory,
    a_socket_can_be_reached,
    mounts_stack_in_order,
    mount_points_are_removed,
    only_mount_points_are_removed_when_asked_so,
    what_was_used_stays,
    links_in_the_image_do_not_lead_out,
    links_in_a_mount_do_not_lead_out,
    the_process_cannot_redirect_the_cleaning,
    mounting_into_proc_is_refused,
    what_cannot_be_mounted_is_named,
];

fn bind(fixture: &Fixture, name: &str) -> GuestMount {
    GuestMount::Mount { mount: Mount::bind(fixture.host(name)), selector: GuestPath::root() }
}

fn part(mount: Mount, selector: &str) -> GuestMount {
    GuestMount::Mount { mount, selector: guest(selector) }
}

async fn the_root_is_written_to_its_layer() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.output("echo new > /tmp/new; echo changed > /etc/group; rm /bin/seq").await?;
    let written = fixture.written();
    ensure!(written.contains(&"tmp/new".to_owned()) && written.contains(&"bin/seq".to_owned()));
    ensure!(fs::read_to_string(fixture.path("upper/etc/group"))? == "changed\n");
    ensure!(!fs::read_to_string(fixture.path("image/etc/group"))?.contains("changed"));
    // The layer is free again: the kernel would refuse a second mount of a busy one.
    fixture.output("cat /tmp/new").await?;
    Ok(())
}

async fn a_read_only_root_is_read_only_and_still_mounted_on() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("echo x > /x; echo y > /a/b/y; cat /a/b/y; echo z > /dev/shm/z");
    spec.root_readonly = true;
    spec.mounts = vec![(guest("/a/b"), GuestMount::Tmpfs { size: None, mode: 0o755 })];
    let done = fixture.run(spec).await?;
    ensure!(done.stderr.contains("can't create /x: Read-only file system"), "{done:?}");
    ensure!(done.stdout == "y\n" && done.status.success(), "{done:?}");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}

async fn a_layer_has_nothing_that_only_mounts_needed() -> Outcome {
    let fixture = Fixture::new().await?;
    for lacking in ["etc/hosts", "etc/resolv.conf", "proc", "sys", "dev"] {
        ensure!(!fixture.path("image").join(lacking).exists(), "the image has {lacking}");
    }
    let said = fixture.output("cat /etc/hosts; ls -d /proc/self /sys/kernel /dev/null").await?;
    ensure!(said.contains("localhost") && said.contains("/sys/kernel\n"), "{said}");
    let left: Vec<_> = fs::read_dir(fixture.path("upper"))?.flatten().collect();
    ensure!(
        left.is_empty(),
        "not even for a moment, as its copy in the layer would stay: {left:?}"
    );
    Ok(())
}

/// A setting of the kernel's overlays, until dropped.
struct KernelSetting {
    file: &'static str,
    before: String,
}

impl KernelSetting {
    /// None if it cannot be changed here.
    fn set(file: &'static str, value: &str) -> Option<Self> {
        let before = fs::read_to_string(file).ok()?;
        fs::write(file, value).ok()?;
        Some(Self { file, before })
    }
}

impl Drop for KernelSetting {
    fn drop(&mut self) {
        fs::write(self.file, &self.before).expect("a setting that could be changed");
    }
}

async fn a_directory_that_was_renamed_is_whole_in_its_layer() -> Outcome {
    let redirect = "/sys/module/overlay/parameters/redirect_dir";
    let Some(_changed) = KernelSetting::set(redirect, "Y") else {
        println!("  (overlays are not set up by this machine's owner)");
        return Ok(());
    };
    let fixture = Fixture::new().await?;
    fs::create_dir(fixture.path("image/there"))?;
    fs::write(fixture.path("image/there/file"), "content")?;
    fixture.output("mv /there /then").await?;
    let moved = fs::read_to_string(fixture.path("upper/then/file"));
    ensure!(moved.as_deref().ok() == Some("content"), "the layer points below itself: {moved:?}");
    Ok(())
}

async fn a_directory_can_be_the_root() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("echo here > /tmp/here");
    spec.root = Mount::bind(fixture.host("image"));
    ensure!(fixture.run(spec).await?.status.success());
    ensure!(fs::read_to_string(fixture.path("image/tmp/here"))? == "here\n");
    ensure!(!fixture.path("image/etc/resolv.conf").exists());
    Ok(())
}

async fn binds_and_their_parts() -> Outcome {
    let fixture = Fixture::new().await?;
    fs::create_dir_all(fixture.path("outside/deep"))?;
    fs::write(fixture.path("outside/deep/file"), "content")?;
    let outside = || Mount::bind(fixture.host("outside"));
    let mut spec = fixture.shell(
        "cat /whole/deep/file /deep/file /file; echo w > /whole/w; echo r > /deep/r; echo n >> /file",
    );
    spec.mounts = vec![
        (guest("/whole"), bind(&fixture, "outside")),
        (guest("/deep"), part(outside().read_only(), "/deep")),
        (guest("/file"), part(outside(), "deep/file")),
    ];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "contentcontentcontent", "{done:?}");
    ensure!(done.stderr.contains("can't create /deep/r: Read-only file system"), "{done:?}");
    ensure!(fs::read_to_string(fixture.path("outside/w"))? == "w\n");
    ensure!(fs::read_to_string(fixture.path("outside/deep/file"))? == "contentn\n");
    Ok(())
}

async fn a_part_of_an_overlay() -> Outcome {
    let fixture = Fixture::new().await?;
    for (layer, text) in [("one", "1"), ("two", "2")] {
        fs::create_dir_all(fixture.path(layer).join("sub"))?;
        fs::write(fixture.path(layer).join("sub").join(layer), text)?;
    }
    let lower = vec![fixture.host("one"), fixture.host("two")];
    let overlay = Mount { source: MountSource::Overlay { lower, upper: None }, readonly: true };
    let mut spec = fixture.shell("cat /m/one /m/two; ls /m; touch /m/x");
    spec.mounts = vec![(guest("/m"), part(overlay, "/sub"))];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "12one\ntwo\n" && !done.status.success(), "{done:?}");
    Ok(())
}

async fn memory_has_its_limit_and_mode() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell(
        "stat -c %a /small; dd if=/dev/zero of=/small/f bs=64k count=64 2>&1; stat -c %s /small/f; \
         dd if=/dev/zero of=/dev/shm/f bs=64k count=64 2>&1 | grep -c 'No space'",
    );
    spec.mounts = vec![(guest("/small"), GuestMount::Tmpfs { size: Some(1 << 20), mode: 0o1777 })];
    spec.shm_size = Some(1 << 20);
    let done = fixture.run(spec).await?;
    ensure!(done.stdout.starts_with("1777\n"), "{done:?}");
    ensure!(done.stdout.contains("No space left on device"), "{done:?}");
    ensure!(done.stdout.ends_with("1048576\n1\n"), "{done:?}");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}

async fn a_secret_is_a_file_in_memory() -> Outcome {
    let fixture = Fixture::new().await?;
    let secret = |text: &str, mode| GuestMount::File {
        content: SecretBytes::new(text.as_bytes().to_vec()),
        mode,
        uid: 1000,
        gid: 1001,
    };
    let mut spec = fixture.shell(
        "cat /run/secrets/a /b; stat -c '%a %u:%g' /run/secrets/a; echo x > /run/secrets/a; \
         grep ' /run/secrets/a ' /proc/mounts; /run/s; stat -c %a /b",
    );
    spec.mounts = vec![
        (guest("/run/secrets/a"), secret("hunter2\n", 0o440)),
        (guest("/b"), secret("other\n", 0o400)),
        (guest("/run/s"), secret("#!/bin/sh\necho ran\n", 0o500)),
    ];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout.starts_with("hunter2\nother\n440 1000:1001\n"), "{done:?}");
    ensure!(done.stderr.contains("Read-only file system"), "{done:?}");
    ensure!(done.stdout.contains("tmpfs /run/secrets/a tmpfs ro,nosuid,nodev,noexec"), "{done:?}");
    ensure!(done.stdout.ends_with("ran\n400\n"), "{done:?}");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}

async fn a_socket_can_be_reached() -> Outcome {
    let fixture = Fixture::new().await?;
    let path = fixture.host("agent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(path.as_path())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let mut spec = fixture.shell("test -S /run/agent; stat -c %a /run/agent");
    spec.mounts = vec![(guest("/run/agent"), GuestMount::Socket { path })];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "600\n" && done.status.success(), "{done:?}");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}

async fn mounts_stack_in_order() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("echo x > /c/inner/x; echo h > /etc/hosts; cat /etc/hosts; ls /c");
    fs::write(fixture.path("hosts"), "mine")?;
    spec.mounts = vec![
        (guest("/c"), bind(&fixture, "outside")),
        (guest("/c/inner"), GuestMount::Tmpfs { size: None, mode: 0o755 }),
        // In the place of the usual one.
        (guest("/etc/hosts"), bind(&fixture, "hosts")),
    ];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "h\ninner\n", "{done:?}");
    ensure!(!fixture.path("outside/inner/x").exists());
    ensure!(fixture.path("outside/inner").exists(), "a volume keeps its mount points");
    ensure!(fs::read_to_string(fixture.path("hosts"))? == "h\n");
    Ok(())
}

async fn mount_points_are_removed() -> Outcome {
    let fixture = Fixture::new().await?;
    let before = fs::metadata(fixture.path("image/var"))?.modified()?;
    let mut spec = fixture.spec(&["true"]);
    spec.mounts = vec![
        (guest("/var/cache/a/b"), bind(&fixture, "outside")),
        (guest("/var/cache/a/c"), GuestMount::Tmpfs { size: None, mode: 0o755 }),
        (guest("/new"), bind(&fixture, "outside")),
    ];
    ensure!(fixture.run(spec).await?.status.success());
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    ensure!(fs::metadata(fixture.path("upper/var"))?.modified()? == before);
    Ok(())
}

async fn only_mount_points_are_removed_when_asked_so() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.spec(&["true"]);
    spec.stub_removal = StubRemoval::TargetsOnly;
    spec.mounts = vec![(guest("/opt/tool/cache"), bind(&fixture, "outside"))];
    ensure!(fixture.run(spec).await?.status.success());
    let written = fixture.written();
    ensure!(written == ["opt", "opt/tool"], "{written:?}");
    Ok(())
}

async fn what_was_used_stays() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("echo kept > /opt/kept");
    spec.mounts = vec![(guest("/opt/cache"), bind(&fixture, "outside"))];
    ensure!(fixture.run(spec).await?.status.success());
    ensure!(fixture.written() == ["opt", "opt/kept"], "{:?}", fixture.written());
    Ok(())
}

async fn links_in_the_image_do_not_lead_out() -> Outcome {
    let fixture = Fixture::new().await?;
    let outside = fixture.path("outside");
    let climbing = format!("../../../../../../../../..{}", outside.display());
    symlink(format!("{climbing}/resolv"), fixture.path("image/etc/resolv.conf"))?;
    symlink("/../../etc/hosts-elsewhere", fixture.path("image/etc/hosts"))?;
    symlink(&outside, fixture.path("image/link"))?;
    symlink("/proc/1/root", fixture.path("image/magic"))?;
    let mut spec = fixture.shell("cat /etc/hosts; echo x > /link/in/x; ls -d /link/in");
    spec.mounts = vec![(guest("/link/in"), GuestMount::Tmpfs { size: None, mode: 0o755 })];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout.contains("localhost") && done.stdout.ends_with("/link/in\n"), "{done:?}");
    ensure!(fs::read_dir(&outside)?.next().is_none(), "the host was written to");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    let mut spec = fixture.spec(&["true"]);
    spec.mounts = vec![(guest("/magic/etc"), GuestMount::Tmpfs { size: None, mode: 0o755 })];
    ensure!(fixture.run(spec).await.is_err());
    Ok(())
}

async fn links_in_a_mount_do_not_lead_out() -> Outcome {
    let fixture = Fixture::new().await?;
    fs::create_dir(fixture.path("volume"))?;
    symlink("/etc", fixture.path("volume/etc"))?;
    symlink(fixture.path("outside"), fixture.path("volume/out"))?;
    for selector in ["/etc", "/out", "../outside", "/out/../../outside"] {
        let mut spec = fixture.spec(&["true"]);
        let mount = Mount::bind(fixture.host("volume"));
        spec.mounts = vec![(guest("/m"), part(mount, selector))];
        let error = fixture.run(spec).await.map(|done| done.stdout);
        let Err(ExecutorError::Setup(SetupError::Mount { target, .. })) = &error else {
            anyhow::bail!("{selector}: {error:?}");
        };
        ensure!(target == "/m");
    }
    Ok(())
}

async fn the_process_cannot_redirect_the_cleaning() -> Outcome {
    let fixture = Fixture::new().await?;
    fs::create_dir_all(fixture.path("image/keep/cache"))?;
    // The directory that holds the mount point is moved away, and a link put in its place.
    let mut spec = fixture.shell("mv /a /b; ln -s /keep /a");
    spec.mounts = vec![(guest("/a/sub/cache"), GuestMount::Tmpfs { size: None, mode: 0o755 })];
    fs::create_dir_all(fixture.path("image/keep/sub/cache"))?;
    let done = fixture.run(spec).await?;
    let checked = fixture.output("ls -d /keep/sub/cache").await?;
    ensure!(checked == "/keep/sub/cache\n", "{done:?}");
    Ok(())
}

async fn mounting_into_proc_is_refused() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.spec(&["true"]);
    symlink("/proc/self", fixture.path("image/sneaky"))?;
    for target in ["/proc/self/attr", "/sneaky/task"] {
        spec.mounts = vec![(guest(target), bind(&fixture, "outside"))];
        let error = fixture.run(spec.clone()).await.map(drop);
        ensure!(matches!(&error, Err(ExecutorError::Setup(SetupError::Mount { .. }))), "{error:?}");
    }
    Ok(())
}

async fn what_cannot_be_mounted_is_named() -> Outcome {
    let fixture = Fixture::new().await?;
    fs::write(fixture.path("file"), "")?;
    for (target, source) in [("/gone", "nowhere"), ("/etc", "file"), ("/etc/passwd", "outside")] {
        let mut spec = fixture.spec(&["true"]);
        spec.mounts = vec![(guest(target), bind(&fixture, source))];
        let error = fixture.run(spec).await.map_err(|error| error.to_string()).map(drop);
        let named = format!("cannot mount `{target}`: ");
        ensure!(error.as_ref().is_err_and(|error| error.starts_with(&named)), "{error:?}");
    }
    let mut spec = fixture.spec(&["true"]);
    let lower = vec![fixture.host("not-there")];
    let source = MountSource::Overlay { lower: [lower.clone(), lower].concat(), upper: None };
    spec.root = Mount { source, readonly: false };
    let error = fixture.run(spec).await.map_err(|error| error.to_string()).map(drop);
    ensure!(
        error.as_ref().is_err_and(|error| error.starts_with("cannot mount `/`: ")),
        "{error:?}"
    );
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}
