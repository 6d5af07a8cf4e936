//! Permission bits as Dockerfiles write them: octal, or symbolic as in POSIX `chmod`.

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// These bits, whatever was there.
    Absolute(u32),
    /// Clauses applied one after the other.
    Symbolic(Vec<Clause>),
}

/// `u+rwx`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    who: u32,
    operator: char,
    permissions: Vec<char>,
}

/// Why a text is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode `{0}`: use octal digits, or clauses such as `u+x,go-w`")]
pub(crate) struct ModeError(String);

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl ModeChange {
    /// Parses `755`, `u=rwX,go+x`.
    pub(crate) fn parse(text: &str) -> Result<Self, ModeError> {
        let error = || ModeError(text.to_owned());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| error())?;
            return if mode <= 0o7777 { Ok(Self::Absolute(mode)) } else { Err(error()) };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            clauses.extend(clause(part).ok_or_else(error)?);
        }
        Ok(Self::Symbolic(clauses))
    }

    /// Returns the bits that a file with the bits `mode` shall have.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Absolute(mode) => *mode,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

/// Parses one part between commas, which may hold several operators: `u+x-w`.
fn clause(part: &str) -> Option<Vec<Clause>> {
    let operators = part.find(['+', '-', '='])?;
    let (who_text, mut rest) = part.split_at(operators);
    let mut who = 0;
    for letter in who_text.chars() {
        who |= match letter {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    let mut clauses = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let permissions: Vec<char> = rest[1..end].chars().collect();
        if permissions.iter().any(|letter| !"rwxXstugo".contains(*letter)) {
            return None;
        }
        clauses.push(Clause { who, operator, permissions });
        rest = &rest[end..];
    }
    Some(clauses)
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let executable = is_directory || mode & 0o111 != 0;
        let bits = self.permissions.iter().fold(0, |bits, letter| {
            bits | match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if executable => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(mode >> 6),
                'g' => spread(mode >> 3),
                'o' => spread(mode),
                _ => 0,
            }
        }) & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !(self.who & 0o777) | bits,
        }
    }
}

/// Returns the three lowest bits for all of user, group and other.
const fn spread(bits: u32) -> u32 {
    let bits = bits & 7;
    bits << 6 | bits << 3 | bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_apply_as_chmod_does() {
        for (text, before, directory, after) in [
            ("755", 0, false, 0o755),
            ("4755", 0o1, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("go-w", 0o666, false, 0o644),
            ("a=r", 0o777, false, 0o444),
            ("+x", 0o644, false, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("u+s,+t", 0o755, false, 0o5755),
            ("u+x-r", 0o600, false, 0o300),
        ] {
            let change = ModeChange::parse(text).unwrap();
            assert_eq!(change.apply(before, directory), after, "{text}");
        }
    }

    #[test]
    fn wrong_modes_are_named() {
        for text in ["", "9", "17777", "u", "u+q", "x+r", "u+x,"] {
            let error = ModeChange::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
