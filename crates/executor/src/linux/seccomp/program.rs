//! Rules, compiled for the kernel's classic packet filter machine.

use std::collections::HashMap;

use super::rules::{NAMESPACE_FLAGS, PERSONALITIES, REFUSED_FAMILIES, Rule, Rules, native};

/// One instruction of the filter machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are skipped if its condition holds.
    pub jump_true: u8,
    /// How many if it does not.
    pub jump_false: u8,
    /// Its operand.
    pub value: u32,
}

// BPF_LD | BPF_W | BPF_ABS, and the others of <linux/filter.h>.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`; both architectures are little-endian, so an argument's low half
// comes first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const FIRST_ARGUMENT_HIGH: u32 = 20;

const ALLOW: u32 = 0x7FFF_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;

/// Returns the filter for this machine.
pub(crate) fn filter() -> Vec<Instruction> {
    compile(&native())
}

fn compile(architectures: &[Rules]) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for rules in architectures {
        let mut block = vec![plain(LOAD, NUMBER)];
        block.extend(Block::search(&runs(rules)));
        // Skipping a block is a long jump: conditional ones reach 255 instructions.
        program.push(branch(JUMP_IF_EQUAL, rules.architecture, 1, 0));
        program.push(plain(JUMP, block.len() as u32));
        program.extend(block);
    }
    program.push(plain(RETURN, KILL));
    program
}

/// A run of numbers that have one rule: from here to the next run's start.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    rule: Rule,
}

fn runs(rules: &Rules) -> Vec<Run> {
    let beyond = Rule::Fail(libc::ENOSYS as u16);
    let mut runs: Vec<Run> = Vec::new();
    for (start, rule) in (0..).zip(rules.by_number.iter().copied().chain([beyond])) {
        if runs.last().is_none_or(|run| run.rule != rule) {
            runs.push(Run { start, rule });
        }
    }
    if let Some(private) = &rules.private {
        runs.push(Run { start: private.start, rule: Rule::Allow });
        runs.push(Run { start: private.end, rule: beyond });
    }
    runs
}

/// The farthest that a conditional jump is let reach, with room for what may come between.
const REACH: usize = 250;

/// A search for the run of the loaded number, by halving. It is put together from its end, so that all
/// that a jump leads to is there already; and what is done about a number is there once, not for each
/// run: the kernel compiles the program anew for each process.
#[derive(Default)]
struct Block {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// Where what is done begins.
    verdicts: HashMap<Rule, usize>,
}

impl Block {
    /// Returns the instructions; never empty.
    fn search(runs: &[Run]) -> Vec<Instruction> {
        let mut block = Self::default();
        let entry = block.put_search(runs);
        if block.distance(entry) > 0 {
            block.put_jump(entry);
        }
        block.reversed.reverse();
        block.reversed
    }

    /// Returns how many instructions the next one has to skip to come to `place`.
    const fn distance(&self, place: usize) -> usize {
        self.reversed.len() - 1 - place
    }

    fn put(&mut self, instruction: Instruction) -> usize {
        self.reversed.push(instruction);
        self.reversed.len() - 1
    }

    fn put_jump(&mut self, place: usize) -> usize {
        self.put(plain(JUMP, self.distance(place) as u32))
    }

    fn put_search(&mut self, runs: &[Run]) -> usize {
        if let [only] = runs {
            return self.put_verdict(only.rule);
        }
        let (low, high) = runs.split_at(runs.len() / 2);
        let (high_place, low_place) = (self.put_search(high), self.put_search(low));
        let (high_place, low_place) = (self.near(high_place), self.near(low_place));
        let boundary = high.first().map_or(0, |run| run.start);
        let [to_high, to_low] = [high_place, low_place].map(|place| self.distance(place) as u8);
        self.put(branch(JUMP_IF_AT_LEAST, boundary, to_high, to_low))
    }

    fn put_verdict(&mut self, rule: Rule) -> usize {
        if let Some(place) = self.verdicts.get(&rule).filter(|place| self.distance(**place) < REACH)
        {
            return *place;
        }
        self.reversed.extend(verdict(rule).into_iter().rev());
        let place = self.reversed.len() - 1;
        self.verdicts.insert(rule, place);
        place
    }

    /// Returns a place from which it goes on as from `place`, and which a conditional jump reaches.
    fn near(&mut self, place: usize) -> usize {
        if self.distance(place) < REACH { place } else { self.put_jump(place) }
    }
}

fn verdict(rule: Rule) -> Vec<Instruction> {
    match rule {
        Rule::Allow => vec![plain(RETURN, ALLOW)],
        Rule::Fail(errno) => vec![fail(errno)],
        Rule::Socket => {
            let mut code = vec![plain(LOAD, FIRST_ARGUMENT)];
            for family in REFUSED_FAMILIES {
                code.extend([branch(JUMP_IF_EQUAL, family, 0, 1), fail(libc::EPERM as u16)]);
            }
            code.push(plain(RETURN, ALLOW));
            code
        }
        Rule::Personality => {
            let mut code = vec![
                plain(LOAD, FIRST_ARGUMENT_HIGH),
                branch(JUMP_IF_EQUAL, 0, 1, 0),
                fail(libc::EPERM as u16),
                plain(LOAD, FIRST_ARGUMENT),
            ];
            for personality in PERSONALITIES {
                code.extend([branch(JUMP_IF_EQUAL, personality, 0, 1), plain(RETURN, ALLOW)]);
            }
            code.push(fail(libc::EPERM as u16));
            code
        }
        Rule::Clone => vec![
            plain(LOAD, FIRST_ARGUMENT),
            branch(JUMP_IF_ANY_BIT, NAMESPACE_FLAGS, 0, 1),
            fail(libc::EPERM as u16),
            plain(RETURN, ALLOW),
        ],
    }
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, value }
}

const fn branch(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

fn fail(errno: u16) -> Instruction {
    plain(RETURN, ERRNO | u32::from(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would.
    fn run(program: &[Instruction], architecture: u32, number: u32, argument: u64) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let i = program[at];
            at += 1;
            let condition = match i.code {
                LOAD => {
                    accumulator = match i.value {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT => argument as u32,
                        FIRST_ARGUMENT_HIGH => (argument >> 32) as u32,
                        other => panic!("offset {other}"),
                    };
                    continue;
                }
                JUMP => {
                    at += i.value as usize;
                    continue;
                }
                RETURN => return i.value,
                JUMP_IF_EQUAL => accumulator == i.value,
                JUMP_IF_AT_LEAST => accumulator >= i.value,
                JUMP_IF_ANY_BIT => accumulator & i.value != 0,
                other => panic!("code {other}"),
            };
            at += usize::from(if condition { i.jump_true } else { i.jump_false });
        }
    }

    #[test]
    fn every_number_gets_its_rule() {
        let program = filter();
        for rules in native() {
            for (number, rule) in (0..).zip(&rules.by_number) {
                let got = run(&program, rules.architecture, number, 0);
                let want = match rule {
                    Rule::Fail(errno) => ERRNO | u32::from(*errno),
                    Rule::Allow | Rule::Socket | Rule::Personality | Rule::Clone => ALLOW,
                };
                assert_eq!(got, want, "{number} of {:x}", rules.architecture);
            }
            // Newer calls, and those of the x32 kind, look as if the kernel were older.
            for number in [rules.by_number.len() as u32, 0x4000_0000, u32::MAX] {
                let got = run(&program, rules.architecture, number, 0);
                assert_eq!(got, ERRNO | libc::ENOSYS as u32);
            }
        }
        assert_eq!(run(&program, 0x1234, 0, 0), KILL);
    }

    #[test]
    fn arguments_are_looked_at() {
        let program = filter();
        for rules in native() {
            let number = |rule: Rule| {
                rules.by_number.iter().position(|other| *other == rule).unwrap() as u32
            };
            let allowed = |rule: Rule, argument: u64| {
                run(&program, rules.architecture, number(rule), argument) == ALLOW
            };
            for (family, expected) in [(2, true), (10, true), (38, false), (39, true), (40, false)]
            {
                assert_eq!(allowed(Rule::Socket, family), expected, "family {family}");
            }
            for (personality, expected) in
                [(0, true), (8, true), (0xFFFF_FFFF, true), (4, false), (1 << 32, false)]
            {
                assert_eq!(allowed(Rule::Personality, personality), expected);
            }
            assert!(allowed(Rule::Clone, 17));
            assert!(!allowed(Rule::Clone, 17 | libc::CLONE_NEWUSER as u64));
        }
    }

    #[test]
    fn private_numbers_are_allowed_where_there_are_some() {
        let mut rules = native().remove(0);
        rules.private = Some(0xF0001..0xF0003);
        let (architecture, program) = (rules.architecture, compile(&[rules]));
        for (number, allowed) in
            [(0xF0000, false), (0xF0001, true), (0xF0002, true), (0xF0003, false)]
        {
            assert_eq!(run(&program, architecture, number, 0) == ALLOW, allowed, "{number:x}");
        }
    }

    #[test]
    fn the_filter_is_short() {
        // A list of comparisons would have more than 1400 instructions.
        let length = filter().len();
        assert!(length < 260, "{length} instructions");
    }
}
