#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| civic_messaging_fuzz::vonage_webhook(data));
