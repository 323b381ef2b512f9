#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    keywheel_fuzz::rules::run(input);
});
