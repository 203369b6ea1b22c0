//! What only macOS has: `sysctl(3)` and `proc_pidinfo` (`libproc.h`).

use std::ffi::CStr;
use std::mem::{MaybeUninit, size_of};

use libc::{PROC_PIDTBSDINFO, SZOMB, c_int, c_void, proc_bsdinfo, proc_pidinfo, sysctlbyname};

/// The host's memory, in bytes (`hw.memsize`).
pub(crate) fn memory_bytes() -> Option<u64> {
    // SAFETY: the value is a 64-bit number (`sys/sysctl.h`), for which any bits will do.
    unsafe { by_name::<u64>(c"hw.memsize") }
}

/// When the host was booted, in seconds since the epoch (`kern.boottime`).
pub(crate) fn boot_time() -> Option<i64> {
    // SAFETY: the value is a `timeval` (`sys/sysctl.h`), two numbers.
    let time = unsafe { by_name::<libc::timeval>(c"kern.boottime") };
    time.map(|time| time.tv_sec)
}

/// When the process was started, in microseconds since the epoch; `None` for one that has
/// ended.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let mut info = MaybeUninit::<proc_bsdinfo>::zeroed();
    let size = size_of::<proc_bsdinfo>() as c_int;
    let pid = c_int::try_from(pid).ok()?;
    // SAFETY: the call writes at most `size` bytes to where `info` has as many.
    let written = unsafe { proc_pidinfo(pid, PROC_PIDTBSDINFO, 0, info.as_mut_ptr().cast(), size) };
    if written != size {
        return None;
    }
    // SAFETY: all of it has been written, and it consists of numbers.
    let info = unsafe { info.assume_init() };
    let ended = info.pbi_status == SZOMB;
    (!ended).then(|| info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec)
}

/// The value called `name`, where it has the size of `T`.
///
/// # Safety
/// `T` is the value's type, and consists of numbers.
unsafe fn by_name<T>(name: &CStr) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut size = size_of::<T>();
    let place = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: the name ends with a zero; the call writes at most `size` bytes to where
    // `value` has as many, and sets nothing without a new value.
    let failed =
        unsafe { sysctlbyname(name.as_ptr(), place, &raw mut size, std::ptr::null_mut(), 0) };
    // SAFETY: zeroed at first, and of numbers, as the caller promises.
    (failed == 0 && size == size_of::<T>()).then(|| unsafe { value.assume_init() })
}
