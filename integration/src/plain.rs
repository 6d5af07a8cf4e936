//! What `--progress=plain` shows, read back into steps.

use std::collections::BTreeMap;

/// The steps of one build, as they were shown.
#[derive(Debug, Clone, Default)]
pub struct Plain {
    steps: BTreeMap<usize, Step>,
}

/// One step, as it was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Such as `[stage-1 2/5] RUN make`.
    pub name: String,
    /// Whether it says `CACHED`.
    pub cached: bool,
    /// Whether it says `DONE`.
    pub done: bool,
    /// What follows `ERROR:`.
    pub error: Option<String>,
    /// What its process wrote, and what else is shown below it, without times.
    pub lines: Vec<String>,
}

impl Step {
    /// Returns whether one of its lines has `text` in it.
    pub fn says(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}

impl Plain {
    /// Reads the display back.
    pub fn parse(text: &str) -> Self {
        let mut steps: BTreeMap<usize, Step> = BTreeMap::new();
        for line in text.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            match steps.get_mut(&number) {
                None => {
                    steps.insert(number, Step { name: rest.to_owned(), ..Step::default() });
                }
                Some(step) => read_line(step, rest),
            }
        }
        Self { steps }
    }

    /// Returns the steps in the order of their numbers.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.values()
    }

    /// Returns the first step with `part` in its name.
    pub fn find(&self, part: &str) -> Option<&Step> {
        self.steps().find(|step| step.name.contains(part))
    }

    /// Returns the steps of the Dockerfile: those in brackets with a count, such as `[2/5] RUN make`.
    pub fn numbered(&self) -> impl Iterator<Item = &Step> {
        self.steps().filter(|step| {
            let head = step.name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            head.is_some_and(|(head, _)| head.contains('/') && !head.starts_with("internal"))
        })
    }
}

fn read_line(step: &mut Step, rest: &str) {
    if rest == "CACHED" {
        step.cached = true;
    } else if rest.starts_with("DONE ") {
        step.done = true;
    } else if let Some(error) = rest.strip_prefix("ERROR: ") {
        step.error = Some(error.to_owned());
    } else if rest == step.name || rest == "..." {
        // The display came back to this step from another one.
    } else {
        let said = rest.split_once(' ').filter(|(time, _)| time.parse::<f64>().is_ok());
        step.lines.push(said.map_or(rest, |(_, said)| said).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_is_read_back() {
        let text = "#0 building with \"x\" instance using remote driver\n\n\
            #1 [internal] load build definition from Dockerfile\n#1 transferring dockerfile: 2B done\n\
            #1 DONE 0.0s\n\n#2 [1/2] FROM a\n#2 CACHED\n\n#3 [2/2] RUN false\n#3 0.071 said 1\n\
            #3 ...\n\n#4 [x] y\n#3 [2/2] RUN false\n#3 ERROR: process failed\n";
        let plain = Plain::parse(text);
        let numbered: Vec<_> = plain.numbered().collect();
        assert_eq!(numbered.len(), 2);
        assert!(numbered[0].cached && !numbered[0].done);
        let failed = plain.find("RUN false").unwrap();
        assert_eq!(failed.error.as_deref(), Some("process failed"));
        assert_eq!(failed.lines, ["said 1"]);
        assert!(plain.find("load build definition").unwrap().says("transferring dockerfile: 2B"));
    }
}
