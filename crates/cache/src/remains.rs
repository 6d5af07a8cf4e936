//! What is left of an operation that failed: trees for whoever looks into why.
//!
//! While it is held the trees stay. What the operation was writing becomes a layer only if somebody asks for
//! it; otherwise it is discarded in the end, as it is when nothing is left of an operation.

use std::fmt;

use tokio::sync::Mutex;

use crate::{CacheError, ImmutableRef, MutableRef};

/// What is left of an operation that failed.
#[derive(Debug, Default)]
pub struct Remains {
    /// The trees that it started from; none where there was none.
    pub inputs: Vec<Option<ImmutableRef>>,
    /// The trees that it worked on, as it left them: one a mount of a process, or an action on files.
    pub outputs: Vec<Option<Leftover>>,
    /// Which part of it failed, if it has parts.
    pub part: Option<FailedPart>,
}

/// The part of an operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedPart {
    /// An action on files, by its place.
    Action(usize),
    /// The look at the content of an input, by its place.
    Content(usize),
}

/// A tree as a failed operation left it.
pub struct Leftover(Mutex<Form>);

enum Form {
    Written(Box<MutableRef>),
    Finished(ImmutableRef),
    /// It could not be kept.
    Lost,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
#[error("what the failed operation has written could not be kept")]
struct Lost;

impl Leftover {
    /// Takes what was written so far; nobody writes any more.
    pub fn written(layer: MutableRef) -> Self {
        Self(Mutex::new(Form::Written(Box::new(layer))))
    }

    /// Takes a tree that stayed as it was.
    pub fn unchanged(tree: ImmutableRef) -> Self {
        Self(Mutex::new(Form::Finished(tree)))
    }

    /// Returns the tree.
    ///
    /// # Errors
    /// Returns an error if it cannot be made a layer.
    pub async fn tree(&self) -> Result<ImmutableRef, CacheError> {
        let mut form = self.0.lock().await;
        match std::mem::replace(&mut *form, Form::Lost) {
            Form::Lost => Err(CacheError::from_error(Lost)),
            Form::Finished(tree) => {
                *form = Form::Finished(tree.clone());
                Ok(tree)
            }
            Form::Written(layer) => {
                let tree = layer.commit().await?;
                *form = Form::Finished(tree.clone());
                Ok(tree)
            }
        }
    }
}

impl fmt::Debug for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leftover").finish_non_exhaustive()
    }
}
