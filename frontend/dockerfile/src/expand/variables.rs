//! Where the values of variables come from.

/// Something that knows the values of variables.
pub trait Variables {
    /// Returns the value of a variable that is set.
    fn value(&self, name: &str) -> Option<&str>;

    /// Returns the names of all that are set, in the order in which they were.
    fn names(&self) -> Vec<&str>;
}

/// No variable at all.
#[derive(Debug, Clone, Copy)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn value(&self, _name: &str) -> Option<&str> {
        None
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Variables in the order in which they were last set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// Returns an environment without variables.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes entries of the form `NAME=value`.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let mut environment = Self::new();
        for entry in entries {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            environment.set(name, value);
        }
        environment
    }

    /// Sets a variable; one that exists moves to the end.
    pub fn set(&mut self, name: impl AsRef<str> + Into<String>, value: impl Into<String>) {
        let Some(at) = self.0.iter().position(|(key, _)| key == name.as_ref()) else {
            self.0.push((name.into(), value.into()));
            return;
        };
        self.0[at].1 = value.into();
        self.0[at..].rotate_left(1);
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    /// Returns the variables in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns entries of the form `NAME=value`.
    pub fn entries(&self) -> Vec<String> {
        self.iter().map(|(name, value)| [name, "=", value].concat()).collect()
    }
}

impl Variables for Environment {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn names(&self) -> Vec<&str> {
        self.iter().map(|(name, _)| name).collect()
    }
}
