//! Wall time and CPU time of what is measured: the one place of this crate that reads a clock or waits.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Runs `work` once; its result and seconds by the clock.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed().as_secs_f64())
}

/// Runs `work`, which stays on this thread, once; its result and its CPU seconds: other work on the machine moves these less than the clock's.
pub(crate) fn time_cpu<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = thread_cpu_s();
    let result = work();
    (result, thread_cpu_s() - began)
}

fn thread_cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// The least CPU seconds of several runs on this thread. Stops early after `budget_s`.
pub(crate) fn best_s<T, E>(runs: usize, budget_s: f64, mut work: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
    let (mut best, mut spent) = (f64::INFINITY, 0.0);
    for _ in 0..runs.max(1) {
        let (result, seconds) = time_cpu(&mut work);
        std::hint::black_box(result?);
        best = best.min(seconds);
        spent += seconds;
        if spent > budget_s {
            break;
        }
    }
    Ok(best)
}

/// Waits.
#[allow(clippy::disallowed_methods, reason = "waits for another process, with nothing else to do")]
pub(crate) fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Now, Unix seconds.
#[allow(clippy::disallowed_methods, reason = "the server under test lives in real time")]
pub(crate) fn now_s() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Makes the compiler believe that decoded points are used.
pub(crate) fn keep(timestamps: &[u32], values: &[f64]) {
    std::hint::black_box((timestamps, values));
}
