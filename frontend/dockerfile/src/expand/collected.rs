//! What was read of a text: the whole, and its words where they are wanted.

/// What was read of a text.
#[derive(Debug)]
pub(super) struct Collected {
    /// The whole.
    pub(super) text: String,
    /// None if only the whole is wanted.
    words: Option<Words>,
}

impl Collected {
    /// Returns nothing yet, of a text that is kept in one piece.
    pub(super) const fn whole() -> Self {
        Self { text: String::new(), words: None }
    }

    /// Returns nothing yet, of a text that is split into words.
    pub(super) fn words() -> Self {
        Self { text: String::new(), words: Some(Words::default()) }
    }

    /// Adds a text that is split at its white space.
    pub(super) fn push_splitting(&mut self, text: &str) {
        self.text.push_str(text);
        if let Some(words) = &mut self.words {
            words.push_splitting(text);
        }
    }

    /// Adds a text that is a part of one word.
    pub(super) fn push_whole(&mut self, text: &str) {
        self.text.push_str(text);
        if let Some(words) = &mut self.words {
            words.current.push_str(text);
        }
    }

    /// Adds a character that is a part of a word, white space or not.
    pub(super) fn push(&mut self, c: char) {
        self.text.push(c);
        if let Some(words) = &mut self.words {
            words.current.push(c);
        }
    }

    /// Returns the words; none if they were not wanted.
    pub(super) fn into_words(self) -> Vec<String> {
        self.words.map(Words::finish).unwrap_or_default()
    }
}

/// Collects characters into words.
#[derive(Debug, Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push_splitting(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.current.push(c);
            } else if !self.current.is_empty() {
                self.done.push(std::mem::take(&mut self.current));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}
