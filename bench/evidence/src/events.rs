//! Lines like those of a log: words that come again, numbers that do not.

use std::fmt::Write as _;

/// What is streamed over and over: longer than what a compressor at a low level looks back on, and small in memory.
const LENGTH: usize = 4 << 20;

/// Log lines as the evidence function stores them.
pub(crate) fn lines() -> Vec<u8> {
    let mut text = String::with_capacity(LENGTH + 1024);
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    while text.len() < LENGTH {
        let (id, at, ms) = (next(), 1_795_230_000_000 + next() % 3_600_000, next() % 900);
        let words = ["order taken", "payment checked", "stock reserved", "retrying", "parcel sent"];
        let what = usize::try_from(next() % 5).ok().and_then(|n| words.get(n)).unwrap_or(&"");
        let _ = writeln!(
            text,
            "{{\"log_group\":\"/aws/lambda/orders\",\"log_stream\":\"2026/11/21/[$LATEST]{:016x}\",\"timestamp\":{at},\
             \"ingestion_time\":{},\"event_id\":\"{:020}{:016}\",\"message\":\"{{\\\"level\\\":\\\"INFO\\\",\
             \\\"request\\\":\\\"{id:016x}\\\",\\\"duration_ms\\\":{ms},\\\"message\\\":\\\"{what}\\\"}}\"}}",
            id % 7,
            at + 900,
            next(),
            next() % 10_000_000_000_000_000
        );
    }
    text.into_bytes()
}
