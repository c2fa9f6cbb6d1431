//! The few names of `libz-ng-sys` that `flate2` uses, answered by the pure-Rust `zlib-rs`.
//!
//! pingora-core asks `flate2` for its `zlib-ng` back end, whose build needs cmake. This crate
//! takes that place (see `[patch.crates-io]` in the main manifest), so that `cargo build` works
//! with a bare toolchain.
//!
//! The two libraries differ only in how Rust sees the allocator fields of [`z_stream`]: plain
//! function pointers here, `Option`s of them there. Both have the same representation, so a
//! pointer to one is a pointer to the other; the assertions below keep sizes equal.
#![no_std]
#![allow(non_camel_case_types, non_snake_case, clippy::missing_safety_doc)]

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::mem::{align_of, size_of};
use libz_rs_sys as rs;

pub use libz_rs_sys::{
    Bytef, Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH,
    Z_FULL_FLUSH, Z_MEM_ERROR, Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END,
    Z_STREAM_ERROR, Z_SYNC_FLUSH, uInt, uLong, voidpf, zlibVersion,
};

pub type alloc_func = unsafe extern "C" fn(voidpf, c_uint, c_uint) -> voidpf;
pub type free_func = unsafe extern "C" fn(voidpf, voidpf);
pub type z_streamp = *mut z_stream;

#[repr(C)]
pub struct z_stream {
    pub next_in: *mut Bytef,
    pub avail_in: uInt,
    pub total_in: uLong,
    pub next_out: *mut Bytef,
    pub avail_out: uInt,
    pub total_out: uLong,
    pub msg: *mut c_char,
    pub state: *mut c_void,
    pub zalloc: alloc_func,
    pub zfree: free_func,
    pub opaque: voidpf,
    pub data_type: c_int,
    pub adler: uLong,
    pub reserved: uLong,
}

const _: () = assert!(size_of::<z_stream>() == size_of::<rs::z_stream>());
const _: () = assert!(align_of::<z_stream>() == align_of::<rs::z_stream>());

/// Hands each function on to its namesake of zlib-rs, the stream pointer seen as theirs.
macro_rules! hand_on {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {$(
        pub unsafe extern "C" fn $name(stream: z_streamp $(, $arg: $kind)*) -> c_int {
            // SAFETY: the caller's promise for the zlib function of this name, and the layouts agree.
            unsafe { rs::$name(stream.cast() $(, $arg)*) }
        }
    )*};
}

hand_on! {
    deflate(flush: c_int);
    deflateEnd();
    deflateReset();
    deflateParams(level: c_int, strategy: c_int);
    deflateSetDictionary(dictionary: *const Bytef, length: uInt);
    deflateInit2_(level: c_int, method: c_int, window_bits: c_int, mem_level: c_int, strategy: c_int, version: *const c_char, size: c_int);
    inflate(flush: c_int);
    inflateEnd();
    inflateReset2(window_bits: c_int);
    inflateSetDictionary(dictionary: *const Bytef, length: uInt);
    inflateInit2_(window_bits: c_int, version: *const c_char, size: c_int);
}
