//! Platforms in all their spellings, and which image runs on which.

use digests::Digest;
use oci::{Descriptor, Platform, media};
use proptest::prelude::*;

fn platform(text: &str) -> Platform {
    Platform::parse(text).unwrap()
}

#[test]
fn spellings_are_one() {
    for (text, expected) in [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/i386", "linux/386"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("macos/arm64", "darwin/arm64"),
        ("windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64"),
        ("windows(+b+a)/amd64", "windows(+a+b)/amd64"),
        ("linux(a%2Bb)/riscv64", "linux(a%2Bb)/riscv64"),
    ] {
        assert_eq!(platform(text).to_string(), expected, "{text}");
    }
    assert_eq!(platform("windows(10.0.17763)/amd64").short(), "windows/amd64");
    assert_eq!(Platform::default().to_string(), "unknown");
}

#[test]
fn a_single_word_is_completed() {
    let default = platform("linux/arm64");
    let parse = |text| Platform::parse_with_default(text, &default).map(|found| found.to_string());
    assert_eq!(parse("amd64").as_deref(), Ok("linux/amd64"));
    assert_eq!(parse("x86_64").as_deref(), Ok("linux/amd64"));
    assert_eq!(parse("arm").as_deref(), Ok("linux/arm/v7"));
    assert_eq!(parse("windows").as_deref(), Ok("windows/arm64"));
    assert_eq!(parse("linux/s390x").as_deref(), Ok("linux/s390x"));
    assert!(parse("toaster").unwrap_err().to_string().contains("\"toaster\""));
}

#[test]
fn what_is_no_platform_is_refused_by_name() {
    for text in [
        "",
        "linux",
        "linux/",
        "/amd64",
        "linux/amd64/v1/x",
        "linux/*",
        "li.nux/amd64",
        "l(/a",
        "l(x/a",
        "l(+)/a",
        "l(%+1)/a",
    ] {
        let error = Platform::parse(text).unwrap_err();
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn older_and_narrower_variants_run_newest_first() {
    for (wanted, runs) in [
        ("linux/amd64", &["linux/amd64", "linux/386"][..]),
        ("linux/amd64/v3", &["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm/v7", &["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        (
            "linux/arm64",
            &["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
        ),
        ("linux/arm64/v8.1", &["linux/arm64/v8.1", "linux/arm64", "linux/arm/v8"]),
        (
            "linux/arm64/v9",
            &["linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64/v8.4", "linux/arm64"],
        ),
        ("linux/s390x", &["linux/s390x"]),
    ] {
        let matcher = platform(wanted).matcher();
        let ranks: Vec<_> = runs.iter().map(|run| matcher.rank(&platform(run))).collect();
        assert!(ranks.iter().all(Option::is_some), "{wanted}: {ranks:?}");
        assert!(ranks.is_sorted() && ranks[0] == Some(0), "{wanted}: {ranks:?}");
    }
    for (wanted, other) in [
        ("linux/amd64", "linux/amd64/v2"),
        ("linux/amd64", "windows/amd64"),
        ("linux/386", "linux/amd64"),
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm64", "linux/arm64/v8.1"),
        ("linux/amd64", "linux(+special)/amd64"),
        ("windows(10.0.17763)/amd64", "windows(10.0.20348.1)/amd64"),
    ] {
        assert_eq!(platform(wanted).matcher().rank(&platform(other)), None, "{wanted} {other}");
    }
    let windows = platform("windows(10.0.17763.1)/amd64").matcher();
    assert_eq!(windows.rank(&platform("windows(10.0.17763.2+win32k)/amd64")), Some(0));
    assert!(platform("linux/arm64").matches(&platform("linux/aarch64/v8")));
    assert!(!platform("linux/amd64").matches(&platform("linux/386")));
}

#[test]
fn the_best_of_an_index_is_chosen() {
    let manifest = |name: &str, on: Option<&str>| Descriptor {
        platform: on.map(|on| Platform::parse(on).unwrap()),
        ..Descriptor::new(media::OCI_MANIFEST, Digest::of(name), 1)
    };
    let index = [
        manifest("attestation", Some("unknown/unknown")),
        manifest("anything", None),
        manifest("v5", Some("linux/arm/v5")),
        manifest("v7", Some("linux/arm/v7")),
        manifest("amd64", Some("linux/amd64")),
    ];
    let names = |on: &str| {
        let matcher = platform(on).matcher();
        matcher.candidates(&index).iter().map(|found| found.digest).collect::<Vec<_>>()
    };
    assert_eq!(names("linux/arm"), ["v7", "v5", "anything"].map(Digest::of));
    assert_eq!(names("linux/amd64"), ["amd64", "anything"].map(Digest::of));
    assert_eq!(names("linux/s390x"), ["anything"].map(Digest::of));
    assert_eq!(platform("linux/s390x").matcher().best(&index[2..]), None);
}

proptest! {
    #[test]
    fn every_platform_round_trips(
        os in "[a-z]{1,8}",
        version in "[a-z0-9.+() %é]{0,6}",
        features in prop::collection::vec("[a-z+]{1,4}", 0..3),
        architecture in "[a-z0-9_]{1,8}",
        variant in "(v[0-9])?",
    ) {
        let platform = Platform {
            os, architecture, variant, os_version: version, os_features: features,
        }.normalized();
        let again: Platform = platform.to_string().parse().unwrap();
        prop_assert_eq!(&again, &platform);
        let json = serde_json::to_string(&platform).unwrap();
        prop_assert_eq!(serde_json::from_str::<Platform>(&json).unwrap(), platform.clone());
        prop_assert_eq!(platform.clone().normalized(), platform);
    }

    #[test]
    fn parsing_never_panics(text in "[a-z0-9/().+%*é]{0,24}") {
        if let Ok(platform) = Platform::parse(&text) {
            let _ = platform.matcher();
        }
    }
}
