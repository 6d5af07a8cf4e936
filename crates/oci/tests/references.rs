//! Names of images, as Docker's users write them.

use digests::Digest;
use oci::{Reference, ReferenceError};
use proptest::prelude::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn short_names_are_completed() {
    for (text, full, familiar) in [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/someone/thing:v1", "docker.io/someone/thing:v1", "someone/thing:v1"),
        ("someone/thing/part", "docker.io/someone/thing/part:latest", "someone/thing/part:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("a.example/b_c/d__e/f-g---h.i", "a.example/b_c/d__e/f-g---h.i:latest", ""),
        ("UPPER/x", "UPPER/x:latest", "UPPER/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("[fd00::1]/x:y", "[fd00::1]/x:y", "[fd00::1]/x:y"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
    ] {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(Reference::parse(full).as_ref(), Ok(&reference), "{full}");
        if !familiar.is_empty() {
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
    }
}

#[test]
fn a_digest_takes_the_place_of_the_usual_tag_but_not_of_a_given_one() {
    let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
    let reference = Reference::parse(&format!("busybox@{digest}")).unwrap();
    assert_eq!((reference.tag(), reference.digest()), (None, Some(digest)));
    let both = Reference::parse(&format!("a.example:1/x:v1@{digest}")).unwrap();
    assert_eq!((both.tag(), both.digest()), (Some("v1"), Some(digest)));
    assert_eq!(
        (both.host(), both.repository(), both.name().as_str()),
        ("a.example:1", "x", "a.example:1/x")
    );
    assert_eq!(both.without_tag().to_string(), format!("a.example:1/x@{digest}"));
    assert_eq!(both.with_tag("v2").unwrap().to_string(), "a.example:1/x:v2");
    let pinned = Reference::parse("busybox").unwrap().with_digest(digest);
    assert_eq!(pinned.to_string(), format!("docker.io/library/busybox:latest@{digest}"));
    assert_eq!(pinned.familiar(), format!("busybox:latest@{digest}"));
}

#[test]
fn what_is_no_name_is_refused_with_the_texts_people_know() {
    let long = format!("a.example/{}", "a/".repeat(130) + "a");
    let tag = format!("x:{}", "t".repeat(129));
    for (text, message) in [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x:-tag", "invalid reference format"),
        (&tag, "invalid reference format"),
        ("x@", "invalid reference format"),
        ("x@sha256:abc", "invalid reference format"),
        ("x@md5:d41d8cd98f00b204e9800998ecf8427e", "invalid reference format"),
        ("/x", "invalid reference format"),
        ("x/", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a_b.example/x", "invalid reference format"),
        ("a.example:port/x", "invalid reference format"),
        ("[::1/x", "invalid reference format"),
        ("https://a.example/x", "invalid reference format"),
        ("x:a:b", "invalid reference format"),
        (
            "Busybox",
            "invalid reference format: repository name (library/Busybox) must be lowercase",
        ),
        ("a.example/X:y", "invalid reference format: repository name (X) must be lowercase"),
        (
            HEX,
            &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ),
        (&long, "repository name must not be more than 255 characters"),
    ] {
        let error = Reference::parse(text).map_err(|error| error.to_string());
        assert_eq!(error, Err(message.to_owned()), "{text}");
    }
    assert!(matches!(Reference::parse("x@sha512:00"), Err(ReferenceError::Digest(_))));
}

proptest! {
    #[test]
    fn every_reference_round_trips(
        host in prop::option::of("([a-z0-9]{1,8}\\.){1,2}[a-z]{2,3}(:[0-9]{1,5})?|localhost|UP|\\[::1\\](:5000)?"),
        path in prop::collection::vec("[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", 1..4),
        tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        digest in prop::option::of(any::<[u8; 32]>()),
    ) {
        let mut text = path.join("/");
        if let Some(host) = host { text = format!("{host}/{text}"); }
        if let Some(tag) = tag { text = format!("{text}:{tag}"); }
        if let Some(digest) = digest { text = format!("{text}@{}", Digest::from_bytes(digest)); }
        // A first component with a dot in it is a host, and need not be a good one.
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        } else {
            let first = path[0].contains('.') && path.len() > 1;
            prop_assert!(first, "{}", text);
        }
    }

    #[test]
    fn parsing_never_panics(text in "[a-zA-Z0-9:@/\\[\\]._-]{0,40}|.{0,20}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
        }
    }
}
