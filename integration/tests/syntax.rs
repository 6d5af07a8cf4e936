//! `# syntax=` lines: our own frontend as an image, against the one that the daemon has built in; and a frontend
//! written by hand, for what the protocol says beside.

use std::fs;

use anyhow::Context as _;
use integration::{Build, Image, Program, Project, World, push_frontend};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The same time for everything that is built, so that equal builds make equal images.
const EPOCH: &str = "SOURCE_DATE_EPOCH=1700000000";

/// What the program of our image may weigh, in bytes.
const SMALL: usize = 12 << 20;
/// Kinds of segments: what is in memory, and the name of the program that loads libraries.
const LOADED: usize = 1;
const INTERPRETER: usize = 3;

/// Builds the image of a frontend from one program, and pushes it; returns its name.
fn push(world: &World, project: &Project, name: &str) -> anyhow::Result<String> {
    let image = world.registry.image(name);
    world
        .build(project)
        .args(["--provenance=false", "--output"])
        .arg(format!("type=image,name={image},push=true,compression=zstd"))
        .succeed()?;
    Ok(image)
}

/// Returns the name of an image of our own frontend, built by the daemon from its own Dockerfile.
fn our_frontend(world: &World) -> anyhow::Result<String> {
    push_frontend(&world.settings, &world.client, &world.registry)
}

/// Returns the name of an image of the frontend that was written by hand, with these labels.
fn hand_frontend(world: &World, labels: &str) -> anyhow::Result<String> {
    let dockerfile = format!(
        "FROM {{debian}}\nCOPY hand-frontend /hand-frontend\nENV HAND=yes\nWORKDIR /work\n{labels}\n\
         ENTRYPOINT [\"/hand-frontend\"]\nCMD [\"never\"]\nUSER nobody\n"
    );
    let project = world.project(&dockerfile)?;
    copy_program(&project, env!("CARGO_BIN_EXE_hand-frontend").as_ref(), "hand-frontend")?;
    push(world, &project, "hand:1")
}

/// Copies a program without what only a debugger reads: it is most of it.
fn copy_program(project: &Project, from: &std::path::Path, name: &str) -> anyhow::Result<()> {
    Program::new("strip").arg("-o").arg(project.path(name)).arg(from).succeed()?;
    project.chmod(name, 0o755)
}

/// Two builds of the same Dockerfile: by the frontend that is built in, and by an image.
struct Both<'a> {
    world: &'a World,
    frontend: &'a str,
}

impl Both<'_> {
    /// Returns the projects; they differ in the first line alone.
    fn projects(&self, dockerfile: &str) -> anyhow::Result<[Project; 2]> {
        let project = |syntax: &str| {
            let project = self.world.project(&format!("# syntax={syntax}\n{dockerfile}"))?;
            project
                .with("a.txt", "a")?
                .with("dir/b.txt", "b")?
                .with("ignored", "x")?
                .with("other/c.txt", "c")?
                .with(".dockerignore", "ignored\nDockerfile\n")
        };
        Ok([project("docker/dockerfile:1")?, project(self.frontend)?])
    }

    /// Asserts that both make the same image, to the last byte of its manifest.
    fn agree(&self, dockerfile: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut images = Vec::new();
        for (at, project) in self.projects(dockerfile)?.iter().enumerate() {
            let name = self.world.registry.image(&format!("result:{at}"));
            let build = self.world.build(project).push(&name);
            let other = format!("other={}", project.path("other").display());
            let arguments = arguments.iter().map(|word| word.replace("{other}", &other));
            let build = build.args(["--build-arg", EPOCH, "--provenance=false"]).args(arguments);
            let built = build.succeed()?;
            let resolved = built.output.contains("resolve image config for docker-image://");
            assert_eq!(resolved, at == 1, "the second alone runs an image:\n{}", built.output);
            images.push(Image::read(&format!("docker://{name}"))?);
        }
        let [ours, image] = &images[..] else { unreachable!("two builds") };
        assert_eq!(ours.config, image.config);
        assert_eq!((&ours.manifest, &ours.top), (&image.manifest, &image.top));
        Ok(())
    }

    /// Asserts that both fail with the same words, and returns them.
    fn fail(&self, dockerfile: &str) -> anyhow::Result<String> {
        let [ours, image] = self.projects(dockerfile)?;
        let ours = told(&self.world.build(&ours).fail()?);
        let image = told(&self.world.build(&image).fail()?);
        assert_eq!(ours, image);
        Ok(ours)
    }

    /// Asserts that both answer a subrequest with the same words, and returns them.
    fn call(&self, dockerfile: &str, call: &str) -> anyhow::Result<String> {
        let mut answers = Vec::new();
        for project in self.projects(dockerfile)? {
            let command = self.world.client.command(["build", call, "--progress=quiet"]);
            let finished = command.arg(project.root()).run()?;
            let place = project.root().display().to_string();
            let said = finished.stdout.replace(self.frontend, "").replace(&place, "");
            answers.push((finished.status.code(), said));
        }
        let text = answers[0].1.replace("docker/dockerfile:1", "");
        assert_eq!((answers[0].0, &text), (answers[1].0, &answers[1].1));
        Ok(text)
    }
}

/// Returns what the client says of a failure below the steps: the place, the excerpt, the error.
fn told(build: &Build) -> String {
    let at = build.output.find("\nDockerfile:").unwrap_or_else(|| panic!("{}", build.output));
    let lines = build.output[at..].lines().filter(|line| !line.contains("# syntax="));
    // Trees of clients have names that are new with every build.
    let known = |line: &str| match line.split_once("checksum of ref ") {
        Some((before, rest)) => {
            let (_, after) = rest.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            format!("{before}checksum of a tree: {after}")
        }
        None => line.to_owned(),
    };
    lines.map(known).collect::<Vec<_>>().join("\n")
}

#[test]
fn our_image_builds_what_the_daemon_builds() -> anyhow::Result<()> {
    let world = World::start()?;
    let frontend = our_frontend(&world)?;
    let both = Both { world: &world, frontend: &frontend };
    both.agree(
        "FROM {busybox} AS made\nARG WORD=some\nENV WORD=$WORD\nWORKDIR /w\n\
         RUN --mount=type=cache,id=syntax,target=/c,sharing=locked echo $WORD >>/c/x && cp /c/x /w/x\n\
         RUN <<END\necho here >/w/here\nEND\n\
         FROM {busybox}\nCOPY --link a.txt /linked\nCOPY --from=made --chown=1:2 /w /w\n\
         COPY . /all\nHEALTHCHECK --interval=5s CMD true\nEXPOSE 80-82\nONBUILD RUN true\nCMD echo x\n",
        &["--build-arg", "WORD=other", "--label", "x=y"],
    )?;
    both.agree(
        "FROM base\nCOPY --from=other c.txt /c\nRUN cat /c\n",
        ["--build-context", "{other}", "--build-context"]
            .into_iter()
            .chain([world.fill("base=docker-image://{busybox}").as_str()])
            .collect::<Vec<_>>()
            .as_slice(),
    )?;
    both.agree("FROM scratch\nCOPY a.txt /\n", &["--platform", "linux/amd64,linux/arm64"])?;
    Ok(())
}

#[test]
fn our_image_fails_and_warns_as_the_daemon_does() -> anyhow::Result<()> {
    let world = World::start()?;
    let frontend = our_frontend(&world)?;
    let both = Both { world: &world, frontend: &frontend };
    let text = both.fail("FROM {busybox}\nRNU true\n")?;
    assert!(text.contains("Dockerfile:3") && text.contains(">>> RNU true"), "{text}");
    assert!(text.contains("unknown instruction: RNU"), "{text}");
    let text = both.fail("FROM {busybox}\nRUN echo before && exit 42\n")?;
    assert!(text.contains(">>> RUN echo") && text.contains("exit code: 42"), "{text}");
    let text = both.fail("FROM {busybox}\nCOPY missing /\n")?;
    assert!(text.contains("missing") && text.contains("not found"), "{text}");
    let linted = "FROM {busybox} as lower\nrun true\nENV A b\n";
    let text = both.call(linted, "--check")?;
    assert!(text.contains("FromAsCasing") && text.contains("LegacyKeyValueFormat"), "{text}");
    let text =
        both.call("# what it is for\nARG A=1\nFROM {busybox} AS t\nARG A\n", "--call=outline")?;
    assert!(text.contains('A'), "{text}");
    let text = both.call("FROM {busybox} AS one\nFROM one AS two\n", "--call=targets")?;
    assert!(text.contains("two (default)"), "{text}");
    Ok(())
}

#[test]
fn both_tell_the_graph_in_place_of_building_it() -> anyhow::Result<()> {
    let world = World::start()?;
    let frontend = our_frontend(&world)?;
    let both = Both { world: &world, frontend: &frontend };
    let mut graphs = Vec::new();
    for project in both.projects("FROM {busybox}\nRUN --network=none exit 1\n")? {
        let words = ["build", "--call=convertllb,format=json", "--progress=quiet"];
        let told = world.client.command(words).arg(project.root()).succeed()?;
        let told: Value = serde_json::from_str(&told)?;
        graphs.push(told["def"].clone());
    }
    let ops: Vec<_> = graphs[0].as_object().context("operations")?.values().collect();
    let run = ops.iter().find_map(|op| op.get("exec")).context("the step")?;
    assert_eq!(run["meta"]["args"], json!(["/bin/sh", "-c", "exit 1"]));
    assert_eq!((run["network"].as_str(), ops.len()), (Some("NONE"), 3));
    assert_eq!(graphs[0], graphs[1]);
    Ok(())
}

#[test]
fn frontends_call_frontends() -> anyhow::Result<()> {
    let world = World::start()?;
    let (ours, hand) = (our_frontend(&world)?, hand_frontend(&world, "")?);
    // The hand asks our image for another file, in whose first line our image finds itself again.
    let project = world.project(&format!("# syntax={hand} relay\n"))?;
    let inner = format!("# syntax={ours}\nFROM scratch\nCOPY a.txt /in/the/middle\n");
    let project = project.with("Inner", &inner)?.with("a.txt", "x")?;
    let out = TempDir::new()?;
    let relayed = || {
        let build = world.build(&project).into_directory(out.path());
        build.args(["--build-arg", &format!("NEXT={ours}"), "--build-arg", "FILE=Inner"])
    };
    let built = relayed().succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("in/the/middle"))?, "x");
    assert!(built.output.contains("load build definition from Inner"), "{}", built.output);
    project.write("Inner", inner.replace("COPY", "CPOY"))?;
    let failed = relayed().fail()?;
    let text = told_of(&failed, "Inner:");
    assert!(text.contains(">>> CPOY") && text.contains("unknown instruction: CPOY"), "{text}");
    Ok(())
}

/// Returns what the client says of a failure from the place that begins with `place`.
fn told_of(build: &Build, place: &str) -> String {
    let at = build.output.find(&format!("\n{place}"));
    build.output[at.unwrap_or_else(|| panic!("{}", build.output))..].to_owned()
}

#[test]
fn a_frontend_may_ask_everything() -> anyhow::Result<()> {
    let world = World::start()?;
    let hand = hand_frontend(&world, "LABEL moby.buildkit.frontend.network.none=true")?;
    let out = TempDir::new()?;
    let report = |words: &str| {
        let project = world.project(&format!("# syntax={hand} {words}\n"))?;
        let base = world.fill("BASE={busybox}");
        let build = world.build(&project).into_directory(out.path());
        let built = build.args(["--build-arg", &base]).succeed()?;
        anyhow::Ok((fs::read_to_string(out.path().join("report"))?, built.output))
    };
    let (text, output) = report("report")?;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "file 0123456789 234",
            "missing open /no: no such file or directory",
            "names a.txt,b.md b.md",
            "stat a.txt 10 644",
            "image sha256: \"linux\"",
            "inputs []",
            "frontend.bin 2",
            "cwd /work",
        ]
    );
    assert!(output.contains("[hand] looks at the base"), "{output}");
    assert!(output.contains("the hand is unsteady"), "{output}");
    let (text, _) = report("container")?;
    assert_eq!(text, "started\ngot a word\nexit 7\nreleased exit code: 7");
    Ok(())
}

#[test]
fn the_end_of_a_frontend_is_the_end_of_its_build() -> anyhow::Result<()> {
    let world = World::start()?;
    let hand = hand_frontend(&world, "")?;
    let project = |word: &str| world.project(&format!("# syntax={hand} {word}\n"));
    for (word, text) in [
        ("silent", "no result for incomplete build"),
        ("crash", "exit code: 1: Error: the frontend has had enough"),
        ("two-faced", "exit code: 1: Error: but it is not"),
    ] {
        let failed = world.build(&project(word)?).fail()?;
        assert!(failed.output.contains(text), "{word}: {}", failed.output);
        assert!(failed.output.contains(">>> # syntax="), "{word}: {}", failed.output);
    }
    // What it says itself goes before how it ended.
    let failed = world.build(&project("error")?).fail()?;
    assert!(failed.output.contains("the hand does not like line three"), "{}", failed.output);
    assert!(failed.output.contains(">>> line three"), "{}", failed.output);
    let name = world.registry.image("old:1");
    world.build(&project("old")?).push(&name).succeed()?;
    let image = Image::read(&format!("docker://{name}"))?;
    assert_eq!(image.text("report")?, "from long ago");
    assert_eq!(image.config["config"]["Labels"]["old"], Value::from("yes"));
    Ok(())
}

#[test]
fn an_image_is_named_by_clients_and_checked() -> anyhow::Result<()> {
    let world = World::start()?;
    let hand = hand_frontend(&world, "")?;
    let project = world.project("FROM scratch\nCOPY a /\n")?.with("a", "a")?;
    let out = TempDir::new()?;
    let by_argument = || {
        let syntax = format!("BUILDKIT_SYNTAX={hand} report");
        let base = world.fill("BASE={busybox}");
        let build = world.build(&project).into_directory(out.path());
        build.args(["--build-arg", &syntax, "--build-arg", &base])
    };
    by_argument().succeed()?;
    assert!(fs::read_to_string(out.path().join("report"))?.starts_with("file "));
    // It does not say that it knows named contexts.
    let context = format!("other={}", out.path().display());
    let failed = by_argument().args(["--build-context", &context]).fail()?;
    // The client knows the detail of our error, and says it in its own words.
    let text = "current frontend does not support --build-context";
    assert!(failed.output.contains(text), "{}", failed.output);
    // Another image may stand in its place.
    let ours = our_frontend(&world)?;
    let replaced = format!("{}=docker-image://{ours}", world.registry.image("nowhere"));
    let syntax = format!("# syntax={}\n", world.registry.image("nowhere"));
    let project =
        Project::new(&format!("{syntax}FROM scratch\nCOPY a /replaced\n"))?.with("a", "a")?;
    world
        .build(&project)
        .into_directory(out.path())
        .args(["--build-context", &replaced])
        .succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("replaced"))?, "a");
    let missing = Project::new(&syntax)?;
    let failed = world.build(&missing).fail()?;
    assert!(
        failed.output.contains("nowhere") && failed.output.contains("not found"),
        "{}",
        failed.output
    );
    Ok(())
}

/// Returns the kinds of the segments of a program, as its headers have them.
fn segments(program: &[u8]) -> Option<Vec<usize>> {
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    // 64 bits, the lowest byte first.
    program.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).map(|index| number(table.checked_add(index * size)?, 4)).collect()
}

#[test]
fn our_image_is_one_small_program_that_needs_nothing() -> anyhow::Result<()> {
    let world = World::start()?;
    let image = Image::read(&format!("docker://{}", our_frontend(&world)?))?;
    let [layer] = &image.layers[..] else { panic!("one layer: {}", image.manifest) };
    assert_eq!(layer.entries.keys().collect::<Vec<_>>(), ["larder-frontend"]);
    let program = &layer.entries["larder-frontend"];
    let (size, packed) = (program.contents.len(), &image.manifest["layers"][0]["size"]);
    println!("the frontend's image: {size} bytes, {packed} as they are pulled");
    assert!(size < SMALL && program.mode & 0o111 == 0o111, "{size} {:o}", program.mode);
    let segments = segments(&program.contents).expect("a program");
    assert!(segments.contains(&LOADED) && !segments.contains(&INTERPRETER), "{segments:?}");
    Ok(())
}

#[test]
fn the_program_alone_says_who_starts_it() -> anyhow::Result<()> {
    let settings = integration::Settings::read()?;
    let finished = Program::new(settings.frontend()?).run()?;
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("a builder starts this program"), "{}", finished.stderr);
    Ok(())
}
