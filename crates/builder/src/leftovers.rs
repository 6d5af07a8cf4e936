//! Trees of failed steps, by the names under which a client can have them in containers.

use std::collections::HashMap;
use std::sync::Arc;

use bridge::{FailedPart, RefHandle};
use cache::{CacheError, ImmutableRef, Remains};

use crate::failure::Named;

/// Trees of failed steps of one build.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    trees: HashMap<RefHandle, Tree>,
    /// What was named already: all who wait for a step hear of its failure.
    named: Vec<(Arc<Remains>, Named)>,
}

/// One tree.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    remains: Arc<Remains>,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Input(usize),
    Output(usize),
}

impl Leftovers {
    /// Names the trees of a failed step; `new_name` returns a name that nothing has. What is empty, or was not
    /// there, has no name.
    pub(crate) fn name(&mut self, remains: Arc<Remains>, new_name: impl Fn() -> String) -> Named {
        if let Some((_, named)) = self.named.iter().find(|(one, _)| Arc::ptr_eq(one, &remains)) {
            return named.clone();
        }
        let mut name = |place: Place, is_there: bool| {
            if !is_there {
                return String::new();
            }
            let name = new_name();
            let tree = Tree { remains: remains.clone(), place };
            self.trees.insert(RefHandle::new(name.as_str()), tree);
            name
        };
        let inputs = remains.inputs.iter().enumerate().map(|(place, input)| {
            let is_there = input.as_ref().is_some_and(|input| !input.is_empty());
            name(Place::Input(place), is_there)
        });
        let inputs = inputs.collect();
        let outputs = remains.outputs.iter().enumerate();
        let outputs = outputs.map(|(place, tree)| name(Place::Output(place), tree.is_some()));
        let outputs = outputs.collect();
        let part = remains.part.map(|part| match part {
            cache::FailedPart::Action(place) => FailedPart::Action(place),
            cache::FailedPart::Content(place) => FailedPart::Content(place),
        });
        let named = Named { inputs, outputs, part };
        self.named.push((remains, named.clone()));
        named
    }

    /// Returns the tree of a name.
    pub(crate) fn find(&self, name: &RefHandle) -> Option<Tree> {
        self.trees.get(name).cloned()
    }
}

impl Tree {
    /// Returns the tree as it was left.
    ///
    /// # Errors
    /// Returns an error if it cannot be kept.
    pub(crate) async fn get(&self) -> Result<ImmutableRef, CacheError> {
        match self.place {
            Place::Input(place) => {
                Ok(self.remains.inputs.get(place).cloned().flatten().unwrap_or_default())
            }
            Place::Output(place) => match self.remains.outputs.get(place) {
                Some(Some(left)) => left.tree().await,
                Some(None) | None => Ok(ImmutableRef::default()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use cache::Leftover;

    use super::*;

    #[tokio::test]
    async fn each_tree_has_one_name_however_many_hear_of_the_failure() {
        let empty = || Some(ImmutableRef::default());
        let remains = Arc::new(Remains {
            inputs: vec![None, empty()],
            outputs: vec![None, empty().map(Leftover::unchanged)],
            part: Some(cache::FailedPart::Action(1)),
        });
        let mut leftovers = Leftovers::default();
        let named = leftovers.name(remains.clone(), || "a".to_owned());
        assert_eq!(named.inputs, ["", ""]);
        assert_eq!(named.outputs, ["", "a"]);
        assert_eq!(named.part, Some(FailedPart::Action(1)));
        assert_eq!(leftovers.name(remains, || "b".to_owned()), named);
        let tree = leftovers.find(&RefHandle::new("a")).unwrap();
        assert!(tree.get().await.unwrap().is_empty());
        assert!(leftovers.find(&RefHandle::new("b")).is_none());
    }
}
