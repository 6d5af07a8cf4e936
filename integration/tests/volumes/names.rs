//! What a volume is called, and what is not part of it.

use integration::house::{House, at_c};

#[test]
fn owner_and_mode_find_the_cache_warm_also_in_a_fork() -> anyhow::Result<()> {
    let house = House::start("")?;
    let look = "stat -c '%a %u %g' /c && cat /c/file";
    for sharing in ["shared", "locked", "private"] {
        let mount = |owner: &str| at_c(sharing, &format!(",sharing={sharing}{owner}"));
        house.run(&mount(""), "echo warm > /c/file")?;
        for (owner, shown) in [
            (",uid=1000", "755 1000 0"),
            (",uid=1000,gid=50", "755 1000 50"),
            (",mode=0700", "700 0 0"),
            ("", "755 0 0"),
        ] {
            assert_eq!(house.run(&mount(owner), look)?, [shown, "warm"], "{sharing}{owner}");
        }
        let reader = at_c(sharing, ",readonly,uid=7,gid=8,mode=0711");
        assert_eq!(house.run(&reader, look)?, ["711 7 8", "warm"], "{sharing}");
    }
    assert_eq!(house.owner().list()?.len(), 3, "one volume for each id");
    Ok(())
}

#[test]
fn content_to_begin_with_makes_a_variant() -> anyhow::Result<()> {
    let house = House::start("")?;
    house.run(&at_c("v", ""), "echo plain > /c/plain")?;
    // Returns what two forks at once and then a third see of a variant seeded with `content`.
    let seen = |content: &str, name: &str| -> anyhow::Result<Vec<String>> {
        let step = |command: &str| {
            let mount = "--mount=type=cache,id=v,target=/c,sharing=private,from=seed,source=/seed";
            house.step(mount, command)
        };
        let project = house.world.project(&format!(
            "FROM {{busybox}} AS seed\nRUN mkdir -p /seed/d && echo {content} > /seed/d/file\n\
             FROM {{busybox}}\n{}{}",
            step(&format!("cat /c/d/file && touch /c/d/{name}")),
            step("echo seen: $(ls /c /c/d)"),
        ))?;
        let build = house.world.build(&project).succeed()?;
        assert_eq!(build.step("cat /c/d/file")?.lines, [content]);
        Ok(build.step("echo seen:")?.lines.clone())
    };
    assert_eq!(seen("red", "one")?, ["seen: /c: d /c/d: file one"]);
    assert_eq!(seen("red", "two")?, ["seen: /c: d /c/d: file one two"], "it is seeded once");
    assert_eq!(seen("blue", "three")?, ["seen: /c: d /c/d: file three"], "other content");
    assert_eq!(house.run(&at_c("v", ""), "ls /c")?, ["plain"], "nothing of the variants");
    assert_eq!(house.owner().list()?.len(), 3);
    let shown = house.world.disk_usage(&["description~=id=v"])?;
    assert_eq!(shown.matches("cache volume id=v (seeded)").count(), 2, "{shown}");
    Ok(())
}

#[test]
fn ids_are_data_and_no_two_are_the_same_volume() -> anyhow::Result<()> {
    let mut house = House::start("")?;
    let long = "x".repeat(4096);
    let longer = "x".repeat(4095) + "y";
    let ids = [
        "../x",
        "x",
        "..",
        ".",
        "../../../../escape",
        "a/b/c",
        "a/b",
        "a%2Fb",
        "A/b",
        "/abs",
        "//abs",
        "\u{1f980}\u{1f956}",
        "\u{e9}",
        "e\u{301}",
        "with space",
        "-x",
        "*",
        "?",
        "v1",
        "a\\b",
        &long,
        &longer,
    ];
    let mut dockerfile = "FROM {busybox}\n".to_owned();
    for again in [false, true] {
        for (number, id) in ids.iter().enumerate() {
            let command = match again {
                false => format!("ls -A /c && echo {number} > /c/number"),
                true => format!("echo {number} has $(cat /c/number)"),
            };
            let mount = format!("--mount=type=cache,\"id={id}\",target=/c,sharing=private");
            let mount = if id.contains(' ') { mount.replace(' ', "\u{a0}") } else { mount };
            dockerfile.push_str(&house.step(&mount, &command));
        }
    }
    let project = house.world.project(&dockerfile)?;
    let build = house.world.build(&project).succeed()?;
    for number in 0..ids.len() {
        assert!(build.step(&format!("echo {number} > /c/number"))?.lines.is_empty(), "{number}");
        let said = &build.step(&format!("echo {number} has"))?.lines;
        assert_eq!(said, &[format!("{number} has {number}")]);
    }
    assert_eq!(house.owner().list()?.len(), ids.len());
    for id in ["../x", "\u{1f980}\u{1f956}", &long] {
        assert_eq!(house.owner().inspect(id)?.head, 2, "it is known by the id that was written");
    }
    let beside = house.world.daemon()?.beside().to_owned();
    assert!(!beside.join("escape").exists() && !beside.join("root/escape").exists());
    Ok(())
}
