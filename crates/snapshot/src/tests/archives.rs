//! Archives and layers.

use mount::RootDir;

use super::*;
use crate::{Applied, ArchiveError, WriteOptions, apply, write_layer};

/// Builds archives as another program would.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(&mut self, kind: tar::EntryType, name: &str, link: &str, content: &str) -> &mut Self {
        let mut header = tar::Header::new_ustar();
        // The checked setters refuse what an attacker would write.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o750);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1234);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content.as_bytes()).unwrap();
        self
    }

    fn file(&mut self, name: &str, content: &str) -> &mut Self {
        self.add(tar::EntryType::Regular, name, "", content)
    }

    fn directory(&mut self, name: &str) -> &mut Self {
        self.add(tar::EntryType::Directory, name, "", "")
    }

    fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.add(tar::EntryType::Symlink, name, target, "")
    }

    fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.add(tar::EntryType::Link, name, target, "")
    }

    fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.0.finish().unwrap();
        self.0.get_ref().clone()
    }
}

fn unpack(
    archive: &[u8],
    layer: &HostPath,
    below: Option<&HostPath>,
) -> Result<Applied, ArchiveError> {
    let below = below.map(|below| RootDir::open(below).unwrap());
    apply(archive, layer, below.as_ref())
}

fn names(layer: &HostPath) -> Vec<String> {
    let picture = picture_of(layer, Times::None);
    let shown = |(path, text): (&PathBuf, &String)| {
        let whiteout = if text == "whiteout" { " (whiteout)" } else { "" };
        let opaque = if text.ends_with(" opaque") { " (opaque)" } else { "" };
        format!("{}{whiteout}{opaque}", path.display())
    };
    picture.iter().map(shown).collect()
}

#[test]
fn whiteouts_become_those_of_an_overlay() {
    let place = Place::new();
    let layer = place.directory("layer");
    let archive = Archive::new()
        .directory("etc/")
        .file("etc/.wh.gone", "")
        .directory("opaque/")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "")
        .file(".wh..wh.plnk/1.2", "")
        .file(".wh..wh.aufs", "")
        .file(".wh.replaced", "")
        .file("replaced/new", "")
        .file(".wh.again", "")
        .directory("again")
        .file("early", "")
        .file(".wh.early", "")
        .bytes();
    unpack(&archive, &layer, None).unwrap();
    assert_eq!(
        names(&layer),
        [
            "again (opaque)",
            "early (whiteout)",
            "etc",
            "etc/gone (whiteout)",
            "opaque (opaque)",
            "opaque/new",
            "replaced (opaque)",
            "replaced/new",
        ]
    );
}

#[test]
fn an_opaque_root_hides_each_name_below() {
    let place = Place::new();
    let (layer, below) = (place.directory("layer"), place.directory("below"));
    for path in ["a", "b/c", "kept"] {
        write(below.as_path(), path, "");
    }
    let archive = Archive::new().file("kept", "").file(".wh..wh..opq", "").bytes();
    unpack(&archive, &layer, Some(&below)).unwrap();
    assert_eq!(names(&layer), ["a (whiteout)", "b (whiteout)", "kept"]);
}

#[test]
fn implied_directories_are_those_below() {
    let place = Place::new();
    let (layer, below) = (place.directory("layer"), place.directory("below"));
    fs::create_dir(below.join("tmp")).unwrap();
    set_mode(&below.as_path().join("tmp"), 0o1777);
    std::os::unix::fs::chown(below.join("tmp"), Some(9), Some(9)).unwrap();
    set_mode(below.as_path(), 0o711);
    // A directory of the archive hides a link below; it does not go through it.
    symlink("/usr/lib", below.join("lib")).unwrap();
    let archive = Archive::new().file("tmp/x", "").file("new/x", "").file("lib/x", "").bytes();
    unpack(&archive, &layer, Some(&below)).unwrap();
    let found = picture_of(&layer, Times::None);
    assert!(found[Path::new("tmp")].starts_with("41777 (9, 9)"), "{found:?}");
    assert!(found[Path::new("new")].starts_with("40755 (0, 0)"), "{found:?}");
    assert_eq!(names(&layer), ["lib", "lib/x", "new", "new/x", "tmp", "tmp/x"]);
    let mode = fs::metadata(&layer).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o711);
    let times = |root: &HostPath| fs::metadata(root.join("tmp")).unwrap().modified().unwrap();
    assert_eq!(times(&layer), times(&below));
}

#[test]
fn hard_links_reach_files_of_the_layer_and_below() {
    let place = Place::new();
    let (layer, below) = (place.directory("layer"), place.directory("below"));
    write(below.as_path(), "dir/old", "below");
    let archive = Archive::new()
        .file("file", "content")
        .hard_link("a/link", "/file")
        .hard_link("b", "./dir/old")
        .hard_link("file", "file")
        .bytes();
    unpack(&archive, &layer, Some(&below)).unwrap();
    let inode =
        |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(layer.join(path)).unwrap());
    assert_eq!(inode("file"), inode("a/link"));
    assert_eq!(inode("dir/old"), inode("b"));
    assert_eq!(fs::read_to_string(layer.join("b")).unwrap(), "below");
    for (archive, name) in [
        (Archive::new().hard_link("x", "nowhere").bytes(), "nowhere"),
        (Archive::new().hard_link("x", "dir").bytes(), "dir"),
        (Archive::new().file("dir/.wh.old", "").hard_link("x", "dir/old").bytes(), "dir/old"),
    ] {
        let layer = place.directory("other");
        let error = unpack(&archive, &layer, Some(&below)).unwrap_err();
        fs::remove_dir_all(&layer).unwrap();
        let ArchiveError::LinkTarget { entry, target } = &error else { panic!("{error}") };
        assert_eq!((entry.as_path(), target.as_path()), (Path::new("x"), Path::new(name)));
    }
}

#[test]
fn nothing_is_written_outside_the_layer() {
    let place = Place::new();
    let outside = place.directory("outside");
    let target = outside.to_string();
    for archive in [
        Archive::new().symlink("link", &target).file("link/x", "").bytes(),
        Archive::new().symlink("link", "../outside").file("link/x", "").bytes(),
        Archive::new().symlink("a", "..").symlink("a/b", &target).file("b/x", "").bytes(),
        Archive::new().symlink("link", &format!("{target}/x")).file("link", "").bytes(),
        Archive::new().symlink("link", &target).file("link/.wh.kept", "").bytes(),
        Archive::new().symlink("link", &target).file("link/.wh..wh..opq", "").bytes(),
        Archive::new().symlink("link", &target).directory("link").bytes(),
        Archive::new().symlink("link", &target).hard_link("mine", "link/kept").bytes(),
        Archive::new().file("../outside/x", "").bytes(),
        Archive::new().file("a/../../outside/x", "").bytes(),
        Archive::new().file(&format!("{target}/x"), "").bytes(),
        Archive::new().hard_link("x", "../outside/kept").bytes(),
    ] {
        write(outside.as_path(), "kept", "kept");
        let layer = place.directory("layer");
        // It may be refused, or resolved inside.
        let _ = unpack(&archive, &layer, None);
        let found = picture_of(&outside, Times::None);
        assert_eq!(found.keys().collect::<Vec<_>>(), [Path::new("kept")]);
        let kept = fs::metadata(outside.join("kept")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&kept), 1);
        fs::remove_dir_all(&layer).unwrap();
    }
    let error = unpack(&Archive::new().file("../x", "").bytes(), &place.directory("layer"), None);
    assert_eq!(
        error.unwrap_err().to_string(),
        "entry \"../x\" of the archive leads outside the layer"
    );
}

#[test]
fn a_loop_of_links_is_an_error_and_no_hang() {
    let place = Place::new();
    let archive = Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", "").bytes();
    let error = unpack(&archive, &place.directory("layer"), None).unwrap_err();
    assert!(matches!(error, ArchiveError::Tree(_)), "{error}");
}

#[test]
fn extended_headers_are_understood() {
    let place = Place::new();
    let layer = place.directory("layer");
    let long = format!("dir/{}", "l".repeat(250));
    let archive = Archive::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1500000000.25"),
            ("uid", b"3000000"),
            ("gid", b"4000000000"),
            ("SCHILY.xattr.user.note", b"a\nb=c"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("comment", b"ignored"),
        ])
        .file("short", "x")
        .pax(&[("mtime", b"-1.5")])
        .file("before-1970", "")
        .bytes();
    unpack(&archive, &layer, None).unwrap();
    let found = picture_of(&layer, Times::Exact);
    let text = &found[Path::new(&long)];
    assert!(text.contains("(3000000, 4000000000) 1500000000.250000000"), "{text}");
    assert!(text.contains("user.note") && !text.contains("overlay"), "{text}");
    assert!(found[Path::new("before-1970")].contains(" -2.500000000 "), "{found:?}");
    assert!(!found.contains_key(Path::new("short")));
}

#[test]
fn malformed_archives_are_errors_that_name_the_entry() {
    let place = Place::new();
    let good = Archive::new().file("dir/file", &"x".repeat(1000)).bytes();
    let mut sum = good.clone();
    sum[148..156].copy_from_slice(b"0000001\0");
    let unknown = Archive::new().add(tar::EntryType::new(b'Z'), "odd", "", "").bytes();
    let sparse = Archive::new().pax(&[("GNU.sparse.major", b"1")]).file("holes", "").bytes();
    let owner = Archive::new().pax(&[("uid", b"99999999999")]).file("whose", "").bytes();
    let nameless = Archive::new().file("dir/.wh.", "").bytes();
    for (archive, expected) in [
        (&good[..700], "dir/file"),
        (&good[..100], "in the middle"),
        (&sum[..], "checksum"),
        (&unknown[..], "odd"),
        (&sparse[..], "sparse"),
        (&owner[..], "owner out of range"),
        (&nameless[..], "dir/.wh."),
    ] {
        let layer = place.directory("layer");
        let error = unpack(archive, &layer, None).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        fs::remove_dir_all(&layer).unwrap();
    }
}

#[test]
fn the_digest_covers_all_of_the_archive() {
    let place = Place::new();
    let mut archive = Archive::new().file("x", "y").bytes();
    archive.extend([0; 10_000]);
    archive.extend(b"anything");
    let applied = unpack(&archive, &place.directory("layer"), None).unwrap();
    assert_eq!(applied.diff_id.digest(), digests::Digest::of(&archive));
    assert_eq!(applied.size, archive.len() as u64);
}

fn written(layer: &HostPath, options: WriteOptions) -> Vec<u8> {
    let mut archive = Vec::new();
    let written = write_layer(layer, &mut archive, options).unwrap();
    assert_eq!(written.diff_id.digest(), digests::Digest::of(&archive));
    assert_eq!(written.size, archive.len() as u64);
    archive
}

#[test]
fn a_layer_survives_the_way_through_an_archive() {
    let place = Place::new();
    let (layer, copy) = (place.directory("layer"), place.directory("copy"));
    write_zoo(layer.as_path());
    mknodat(CWD, layer.join("gone").as_path(), FileType::CharacterDevice, Mode::empty(), 0)
        .unwrap();
    set_xattr(&layer.as_path().join("tmp"), "trusted.overlay.opaque", b"y");
    std::os::unix::net::UnixListener::bind(layer.join("home/socket")).unwrap();
    let archive = written(&layer, WriteOptions::default());
    fs::remove_file(layer.join("home/socket")).unwrap();
    unpack(&archive, &copy, None).unwrap();
    let (found, given) = (picture_of(&copy, Times::Seconds), picture_of(&layer, Times::Seconds));
    assert_eq!(found.len(), given.len());
    for (path, text) in &given {
        // Only a directory in which something was removed has another time.
        if path != Path::new("home") {
            assert_eq!(&found[path], text, "{}", path.display());
        }
    }
    assert_eq!(written(&copy, WriteOptions::default()).len(), archive.len());
}

#[test]
fn others_read_what_is_written() {
    let place = Place::new();
    let layer = place.directory("layer");
    write_zoo(layer.as_path());
    // The other reader cuts records at line feeds.
    fs::rename(layer.join("names/ümläut and  spaces\n"), layer.join("names/ümläut")).unwrap();
    let archive = written(&layer, WriteOptions::default());
    let mut reader = tar::Archive::new(archive.as_slice());
    let mut found = BTreeMap::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!(header.username_bytes(), Some(&b""[..]));
        let uid = header.uid().unwrap();
        let link = entry.link_name().unwrap().map(|link| link.into_owned());
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
        let path = entry.path().unwrap().into_owned();
        found.insert(path, (header.entry_type(), header.mode().unwrap(), uid, link, content));
    }
    let zoo = picture_of(&layer, Times::None);
    let strange: Vec<_> = found.keys().filter(|path| !zoo.contains_key(*path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(found.len(), zoo.len());
    let su = &found[Path::new("bin/su")];
    assert_eq!((su.0, su.1, su.4.as_str()), (tar::EntryType::Regular, 0o4755, "program"));
    let link = &found[Path::new("bin/ping6")];
    assert_eq!((link.0, link.3.as_deref()), (tar::EntryType::Link, Some(Path::new("bin/ping"))));
}

#[test]
fn the_bytes_of_an_archive_never_change() {
    let place = Place::new();
    let layer = place.directory("layer");
    write(layer.as_path(), "etc/motd", "hello\n");
    symlink("motd", layer.join("etc/link")).unwrap();
    write(layer.as_path(), &"p".repeat(120), "");
    mknodat(CWD, layer.join("gone").as_path(), FileType::CharacterDevice, Mode::empty(), 0)
        .unwrap();
    let archive = written(&layer, WriteOptions { newest: Some(1_000_000_000) });
    assert_eq!(
        digests::Digest::of(&archive).to_string(),
        "sha256:f1295c49a02e09c0e7eceab3ca3c90499fcf1944b1cc14a01af0098d9081ee1e",
        "a change here gives every layer a new digest"
    );
}

#[test]
fn times_can_be_bounded() {
    let place = Place::new();
    let (layer, copy) = (place.directory("layer"), place.directory("copy"));
    write(layer.as_path(), "new", "");
    write(layer.as_path(), "old", "");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
    fs::File::open(layer.join("old")).unwrap().set_modified(old).unwrap();
    unpack(&written(&layer, WriteOptions { newest: Some(100) }), &copy, None).unwrap();
    let time = |name| {
        let modified = fs::metadata(copy.join(name)).unwrap().modified().unwrap();
        modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!((time("new"), time("old")), (100, 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_layers_round_trip(steps in changes(30), hidden in prop::collection::vec(paths(), 0..4)) {
        let place = Place::new();
        let (layer, copy) = (place.directory("layer"), place.directory("copy"));
        steps.iter().for_each(|change| change.make(layer.as_path()));
        for path in hidden {
            let path = layer.join(path);
            let _ = mknodat(CWD, path.as_path(), FileType::CharacterDevice, Mode::empty(), 0);
        }
        let archive = written(&layer, WriteOptions::default());
        unpack(&archive, &copy, None).unwrap();
        let (found, given) = (picture_of(&copy, Times::Seconds), picture_of(&layer, Times::Seconds));
        prop_assert_eq!(found, given);
        prop_assert_eq!(written(&copy, WriteOptions::default()), archive);
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused(
        steps in changes(10),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        fix_sums: bool,
    ) {
        let place = Place::new();
        let (layer, copy) = (place.directory("layer"), place.directory("copy"));
        steps.iter().for_each(|change| change.make(layer.as_path()));
        let mut archive = written(&layer, WriteOptions::default());
        for (at, byte) in edits {
            let at = at.index(archive.len());
            archive[at] = byte;
            if fix_sums {
                let start = at / 512 * 512;
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&archive[start..start + 512]);
                header.set_cksum();
                archive[start..start + 512].copy_from_slice(header.as_bytes());
            }
        }
        let _ = unpack(&archive, &copy, None);
    }
}
