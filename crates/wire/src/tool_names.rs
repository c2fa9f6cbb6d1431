//! The names of tools that an upstream without namespaces and custom tools knows as functions, for dialects and for
//! the translation. Names are unique in a request, fit the upstream's limit, and depend on the tools alone.

use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// The longest name of a function.
const MAX_NAME: usize = 64;
/// Between a namespace and a name.
const SEPARATOR: &str = "__";
/// Bytes of a suffix: `_` and eight hexadecimal digits.
const SUFFIX: usize = 9;
/// Longest name of a namespace that is flattened, in bytes: it is written once for each of its tools.
pub(crate) const MAX_NAMESPACE: usize = 128;

/// The kind of a tool that the client runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallKind {
    /// With arguments in JSON.
    Function,
    /// With free text as its input. An upstream without such tools has a function with one argument.
    Custom,
}

/// A tool of a request as its caller knows it. `namespace` is empty outside of namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OriginalTool {
    pub kind: CallKind,
    pub namespace: String,
    pub name: String,
}

/// The tools of a request that change, by both of their names.
#[derive(Debug, Default)]
pub(crate) struct ToolNames {
    flat: HashMap<OriginalTool, String>,
    original: HashMap<String, OriginalTool>,
    /// The names of functions that stay as they are.
    kept: HashSet<String>,
}

impl ToolNames {
    /// Names the tools `changed`, beside functions that keep their names.
    pub fn new(kept: HashSet<String>, changed: impl IntoIterator<Item = OriginalTool>) -> Self {
        let mut names = Self { kept, ..Self::default() };
        for tool in changed {
            names.add(tool);
        }
        names
    }

    pub fn is_empty(&self) -> bool {
        self.original.is_empty()
    }

    /// The upstream's name for a tool, also for one that the request does not have.
    pub fn flat(&self, tool: &OriginalTool) -> String {
        self.flat.get(tool).cloned().unwrap_or_else(|| tool.plain_name())
    }

    pub fn has(&self, tool: &OriginalTool) -> bool {
        self.flat.contains_key(tool)
    }

    /// The caller's tool behind a name of the upstream's; `None` for a function that kept its name.
    pub fn original(&self, flat: &str) -> Option<&OriginalTool> {
        self.original.get(flat)
    }

    /// A tool that is there twice keeps its first name, and one without a name has none.
    fn add(&mut self, tool: OriginalTool) {
        if tool.name.is_empty() || self.flat.contains_key(&tool) {
            return;
        }
        let mut flat = tool.plain_name();
        if self.is_taken(&flat) {
            let suffixed = SuffixedName::of(&tool);
            let mut names = (1..).map(|attempt| suffixed.attempt(attempt));
            flat = names.find(|name| !self.is_taken(name)).unwrap_or(flat);
        }
        self.original.insert(flat.clone(), tool.clone());
        self.flat.insert(tool, flat);
    }

    fn is_taken(&self, flat: &str) -> bool {
        self.kept.contains(flat) || self.original.contains_key(flat)
    }
}

impl OriginalTool {
    /// The name outside of the namespace; with a suffix if it is too long.
    fn plain_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else if self.namespace.len() + SEPARATOR.len() + self.name.len() > MAX_NAME {
            SuffixedName::of(self).attempt(0)
        } else {
            format!("{}{SEPARATOR}{}", self.namespace, self.name)
        }
    }

    /// The first bytes of a SHA-256 over the tool: a caller cannot make many tools that share them, of which each would try the same taken names.
    fn digest(&self) -> u64 {
        let kind = if self.kind == CallKind::Custom { b"c" } else { b"f" };
        let hash = Sha256::new()
            .chain_update(&self.namespace)
            .chain_update(b"\0")
            .chain_update(&self.name)
            .chain_update(kind)
            .finalize();
        hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

/// The names of a tool with a suffix. They follow from the tool alone, so that they are the same in the next request.
struct SuffixedName {
    /// As much of the name as fits before the suffix.
    prefix: String,
    digest: u64,
}

impl SuffixedName {
    fn of(tool: &OriginalTool) -> Self {
        let separator = if tool.namespace.is_empty() { "" } else { SEPARATOR };
        let characters = [&tool.namespace, separator, &tool.name].into_iter().flat_map(str::chars);
        let mut prefix = String::new();
        for character in characters {
            if prefix.len() + character.len_utf8() > MAX_NAME - SUFFIX {
                break;
            }
            prefix.push(character);
        }
        Self { prefix, digest: tool.digest() }
    }

    fn attempt(&self, attempt: u64) -> String {
        let mixed = self.digest.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        format!("{}_{:08x}", self.prefix, mixed >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(namespace: &str, name: &str) -> OriginalTool {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        OriginalTool { kind: CallKind::Function, namespace, name }
    }

    /// A caller that lists all names which a huge one would get costs a lookup for each of them.
    #[test]
    fn taken_names_cost_a_lookup_each() {
        let huge = tool("space", &"x".repeat(1 << 22));
        let suffixed = SuffixedName::of(&huge);
        let kept: HashSet<_> = (0..100_000).map(|attempt| suffixed.attempt(attempt)).collect();
        let names = ToolNames::new(kept.clone(), [huge.clone()]);
        let flat = names.flat(&huge);
        assert!(flat.len() <= MAX_NAME && !kept.contains(&flat), "{flat}");
        assert_eq!(names.original(&flat), Some(&huge));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        for (namespace, name) in
            [("ö", "ä".repeat(40)), ("", "ä".repeat(40)), ("n", "x".repeat(64))]
        {
            let flat = SuffixedName::of(&tool(namespace, &name)).attempt(7);
            assert!((60..=MAX_NAME).contains(&flat.len()), "{flat}");
        }
    }
}
