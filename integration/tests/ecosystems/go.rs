//! go, with its modules and what it compiled.

use integration::house::House;

use crate::tool::Tool;
use crate::tools;

#[test]
fn go() -> anyhow::Result<()> {
    let house = House::start("")?;
    let module = "module app\ngo 1.19\nrequire github.com/google/uuid v1.3.0\n";
    let main = |number: usize| {
        format!(
            "package main\nimport (\n\t\"fmt\"\n\t\"github.com/google/uuid\"\n)\n\
             func main() {{ fmt.Println(\"number\", {number}, uuid.Nil) }}\n"
        )
    };
    let cut = Tool {
        house: &house,
        name: "go",
        head: &(tools("golang-go")
            + "FROM tools\nENV CGO_ENABLED=0 GOFLAGS=-mod=mod\nWORKDIR /src\nCOPY . .\n"),
        caches: &["/root/go/pkg/mod", "/root/.cache/go-build"],
        files: &|number| vec![("go.mod", module.into()), ("main.go", main(number))],
        fill: "go mod download",
        work: "go build -ldflags=-w -o /app . && /app",
        says: &|number| format!("number {number} 00000000-"),
        contexts: &[],
    }
    .prove()?;
    cut.assert_cached("apt-get update", true);
    Ok(())
}
