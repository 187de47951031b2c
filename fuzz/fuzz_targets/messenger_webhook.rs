#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| civic_messaging_fuzz::messenger_webhook(data));
