//! The names of tools that an upstream without namespaces and custom tools knows as functions, for dialects and for
//! the translation. Names are unique in a request, fit the upstream's limit, and depend on the tools alone.

use std::collections::{HashMap, HashSet};

/// The longest name of a function.
const MAX_NAME: usize = 64;
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
        let mut attempt = 0;
        while self.kept.contains(&flat) || self.original.contains_key(&flat) {
            attempt += 1;
            flat = tool.name_with_suffix(attempt);
        }
        self.original.insert(flat.clone(), tool.clone());
        self.flat.insert(tool, flat);
    }
}

impl OriginalTool {
    /// The name outside of the namespace; with a suffix if it is too long.
    fn plain_name(&self) -> String {
        let joined = self.joined();
        if joined.len() > MAX_NAME && !self.namespace.is_empty() {
            self.name_with_suffix(0)
        } else {
            joined
        }
    }

    fn joined(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}__{}", self.namespace, self.name)
        }
    }

    /// A name with a suffix that follows from the tool alone, so that it is the same in the next request.
    fn name_with_suffix(&self, attempt: u32) -> String {
        let mut name = self.joined();
        let suffix = format!("_{:08x}", self.digest(attempt));
        let mut end = name.len().min(MAX_NAME - suffix.len());
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name + &suffix
    }

    /// FNV-1a of the tool and the attempt, folded to 32 bits.
    fn digest(&self, attempt: u32) -> u32 {
        let kind = if self.kind == CallKind::Custom { b"c" } else { b"f" };
        let parts = [self.namespace.as_bytes(), b"\0", self.name.as_bytes(), kind];
        let bytes =
            parts.into_iter().flatten().chain(&attempt.to_le_bytes()).copied().collect::<Vec<_>>();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let folded = (hash ^ (hash >> 32)) & u64::from(u32::MAX);
        u32::try_from(folded).unwrap_or_default()
    }
}
