//! OpenAI's error object, and the upstream's errors read into it.
