//! cargo, with its registry and what it compiled.

use integration::Program;
use integration::house::House;

use crate::tool::{STEP, Tool};

#[test]
fn cargo() -> anyhow::Result<()> {
    // The distribution's is too old for today's index; the one that built this test is not.
    let sysroot = Program::new("rustc").args(["--print", "sysroot"]).succeed()?;
    let house = House::start("")?;
    let head = "FROM {debian}\nENV CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt\n\
                COPY --from=rust bin/cargo bin/rustc /usr/bin/\nCOPY --from=rust lib /usr/lib/\n\
                WORKDIR /src\nCOPY . .\n";
    let manifest = "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\
                    [dependencies]\nitoa = \"=1.0.15\"\n";
    let code = |number: usize| {
        format!("pub fn f{number}() -> String {{ itoa::Buffer::new().format(1).to_owned() }}\n")
    };
    let cut = Tool {
        house: &house,
        name: "cargo",
        head,
        caches: &["/root/.cargo/registry", "/src/target"],
        files: &|number| vec![("Cargo.toml", manifest.into()), ("src/lib.rs", code(number))],
        fill: "cargo fetch",
        work: "cargo check --offline 2>&1",
        says: &|_| "Checking app".to_owned(),
        contexts: &[format!("rust={}", sysroot.trim())],
    }
    .prove()?;
    cut.assert_cached("COPY --from=rust lib", true);
    let step = cut.step(STEP)?;
    assert!(!step.says("Checking itoa"), "what the cache had is not compiled: {}", cut.output);
    Ok(())
}
