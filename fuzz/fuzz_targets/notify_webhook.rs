#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| civic_messaging_fuzz::notify_webhook(data));
