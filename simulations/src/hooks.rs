//! Overrides of libc's clock and randomness, active only on the thread of a simulation.
//!
//! Libraries reach for entropy and time past every seam of ours: `RandomState`, `rand`, ring's
//! `SystemRandom`, rustls' and quinn's clocks. All of them end in `getrandom`, `clock_gettime` or (the
//! getrandom 0.2 of ring) the `syscall` wrapper, so these symbols are defined here and answer from the
//! seed and the virtual clock. On every other thread they fall through to the kernel by a raw system call,
//! because `syscall` itself is overridden. Only binaries that link this crate carry the overrides.
//!
//! Out of reach: inline system calls (`getrandom_backend="linux_raw"`), the CPU's `rdrand`, and aws-lc.
#![expect(unsafe_code, reason = "libc symbols can only be replaced by unmangled C functions")]

use std::cell::RefCell;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::dice;

thread_local! {
    /// What the overrides answer on this thread; `None` means: ask the kernel.
    static ACTIVE: RefCell<Option<Active>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Active {
    random: Option<ChaCha8Rng>,
    clock: bool,
}

/// Which overrides are on. Everything, except in the controls that show what each one is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks {
    /// Randomness from the seed instead of the kernel.
    pub random: bool,
    /// The host's virtual time instead of the machine's.
    pub clock: bool,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { random: true, clock: true }
    }
}

/// Turns the overrides on for this thread until the guard is dropped.
///
/// The thread must be fresh: `RandomState` and `rand` keep per-thread keys that were drawn at first use.
///
/// # Panics
/// On a platform without overrides: a simulation there would not repeat.
pub fn activate(seed: u64, hooks: Hooks) -> ActiveHooks {
    if !SUPPORTED {
        panic!("simulations need Linux on x86_64 or aarch64, where the libc hooks exist");
    }
    let random = hooks.random.then(|| ChaCha8Rng::from_seed(dice::derive(seed, "entropy", 0)));
    ACTIVE.with(|active| *active.borrow_mut() = Some(Active { random, clock: hooks.clock }));
    ActiveHooks(())
}

/// Keeps the overrides of this thread on; see [`activate`].
#[derive(Debug)]
#[must_use = "the overrides end when this is dropped"]
pub struct ActiveHooks(());

impl Drop for ActiveHooks {
    fn drop(&mut self) {
        ACTIVE.with(|active| *active.borrow_mut() = None);
    }
}

/// Fills `bytes` from the seed; false when this thread asks the kernel.
fn fill_from_seed(bytes: &mut [u8]) -> bool {
    ACTIVE
        .try_with(|active| {
            let Ok(mut active) = active.try_borrow_mut() else { return false };
            let Some(random) = active.as_mut().and_then(|active| active.random.as_mut()) else {
                return false;
            };
            random.fill_bytes(bytes);
            true
        })
        .unwrap_or(false)
}

/// True when this thread lives in virtual time.
fn clock_is_virtual() -> bool {
    ACTIVE
        .try_with(|active| active.try_borrow().is_ok_and(|active| active.as_ref().is_some_and(|on| on.clock)))
        .unwrap_or(false)
}

const SUPPORTED: bool = cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")));

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod overrides {
    use std::slice;

    use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

    use super::{clock_is_virtual, fill_from_seed};
    use crate::clock;

    /// Replaces `getrandom(2)`.
    ///
    /// # Safety
    /// As in libc: `buffer` is null with a length of zero, or valid for writes of `length` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
        if unsafe { fill_raw(buffer, length) } {
            return length as ssize_t;
        }
        let arguments = [buffer as usize, length, flags as usize, 0, 0, 0];
        unsafe { kernel(libc::SYS_getrandom, arguments) as ssize_t }
    }

    /// Replaces `getentropy(3)`, for C code that draws by it.
    ///
    /// # Safety
    /// As in libc: `buffer` is valid for writes of `length` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getentropy(buffer: *mut c_void, length: size_t) -> c_int {
        let drawn = unsafe { getrandom(buffer, length, 0) };
        if usize::try_from(drawn) == Ok(length) { 0 } else { -1 }
    }

    /// Replaces `clock_gettime(2)` for wall and monotonic clocks; CPU time stays the machine's.
    ///
    /// # Safety
    /// As in libc: `time` is valid for a write.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(id: clockid_t, time: *mut timespec) -> c_int {
        let nanos = match id {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => virtual_nanos(clock::wall_nanos),
            libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_BOOTTIME => virtual_nanos(clock::monotonic_nanos),
            _ => None,
        };
        let Some(nanos) = nanos else {
            let arguments = [id as usize, time as usize, 0, 0, 0, 0];
            return unsafe { kernel(libc::SYS_clock_gettime, arguments) as c_int };
        };
        unsafe {
            (*time).tv_sec = (nanos / 1_000_000_000) as _;
            (*time).tv_nsec = (nanos % 1_000_000_000) as _;
        }
        0
    }

    /// Replaces the variadic `syscall(2)`: on these platforms its arguments travel in registers.
    ///
    /// # Safety
    /// As in libc: whatever the call `number` asks of its arguments.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn syscall(
        number: c_long,
        a: usize,
        b: usize,
        c: usize,
        d: usize,
        e: usize,
        f: usize,
    ) -> c_long {
        if number == libc::SYS_getrandom && unsafe { fill_raw(a as *mut c_void, b) } {
            return b as c_long;
        }
        unsafe { kernel(number, [a, b, c, d, e, f]) }
    }

    fn virtual_nanos(read: fn() -> u64) -> Option<u64> {
        clock_is_virtual().then(read)
    }

    unsafe fn fill_raw(buffer: *mut c_void, length: usize) -> bool {
        if buffer.is_null() || length == 0 {
            // Libraries probe with an empty buffer whether the call exists.
            return fill_from_seed(&mut []);
        }
        fill_from_seed(unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), length) })
    }

    /// The system call itself, with libc's convention for errors.
    unsafe fn kernel(number: c_long, arguments: [usize; 6]) -> c_long {
        let answer = unsafe { raw(number, arguments) };
        if (-4095..0).contains(&answer) {
            unsafe { *libc::__errno_location() = -answer as c_int };
            return -1;
        }
        answer as c_long
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
        let answer: isize;
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number as isize => answer,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        answer
    }

    #[cfg(target_arch = "aarch64")]
    unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
        let answer: isize;
        unsafe {
            std::arch::asm!(
                "svc 0",
                in("x8") number,
                inlateout("x0") a as isize => answer,
                in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
                options(nostack),
            );
        }
        answer
    }
}
