//! What a piece of the appliance is made of, as one hash.

use sha2::{Digest as _, Sha256};

/// A hash of everything that a piece is made of.
#[derive(Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    /// A key for pieces of `kind`. Counting `recipe` up rebuilds them all.
    pub(crate) fn new(kind: &str, recipe: u32) -> Self {
        Self(Sha256::new()).with(kind).with(recipe.to_string())
    }

    /// The key with one more ingredient. Lengths are hashed too, so that
    /// ingredients do not run into each other.
    pub(crate) fn with(mut self, ingredient: impl AsRef<[u8]>) -> Self {
        let bytes = ingredient.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The key as the name of a folder.
    pub(crate) fn hex(self) -> String {
        let digest: [u8; 32] = self.0.finalize().into();
        let digits: Vec<String> = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        digits.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ingredients: &[&str]) -> String {
        let start = Key::new("kernel", 1);
        let key = ingredients.iter().fold(start, Key::with);
        key.hex()
    }

    #[test]
    fn keys_are_stable_and_differ_with_every_ingredient() {
        assert_eq!(key(&["6.12", "gcc 12"]), key(&["6.12", "gcc 12"]));
        assert_ne!(key(&["6.12", "gcc 12"]), key(&["6.12", "gcc 13"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(Key::new("kernel", 1).hex(), Key::new("kernel", 2).hex());
        // A change here would rebuild everybody's kernel.
        assert_eq!(key(&["6.12"]), "60f4b489985a45d2849a3c8aa8049953");
    }
}
