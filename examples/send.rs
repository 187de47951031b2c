//! Sends one text message, through the mock or through a gateway configured in a TOML file.
//!
//! ```text
//! cargo run --example send                                              # the mock
//! cargo run --example send -- sms.toml "07700 900123" "Hello"           # a real gateway
//! ```
//!
//! The file contains the gateway, the medium and the gateway's own settings:
//!
//! ```toml
//! gateway = "notify"
//! medium = "sms"
//! api_key = { env = "NOTIFY_API_KEY" }
//! template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
//! ```

use std::sync::Arc;

use civic_messaging::{Address, Channel, ChannelExt, Context, Message, Mock, Outcome, Registry, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (channel, to, text): (Arc<dyn Channel>, _, _) = match arguments.as_slice() {
        [] => (Arc::new(Mock::sms()), "07700 900123", "Your collection is on Tuesday."),
        [file, to, text] => {
            let settings = Settings::from_toml(&std::fs::read_to_string(file)?)?;
            (Registry::standard().connect(&settings, &Context::new())?, to.as_str(), text.as_str())
        }
        _ => return Err("usage: send [FILE.toml ADDRESS TEXT]; without arguments it uses the mock".into()),
    };

    let message = Message::text(Address::parse(&channel.info().medium, to)?, text).key("send-example-1");
    let plan = channel.plan(&message);
    let segments = plan.segments().map_or("unknown".to_owned(), |segments| segments.to_string());
    println!("{} message, SMS segments: {segments}, losses: {:?}", plan.parts(), plan.losses());

    match channel.send(&message).await {
        Ok(accepted) => println!("accepted by {} as {}, not yet delivered", accepted.gateway, accepted.id()),
        Err(e) if e.outcome() == Outcome::Unknown => println!("outcome unknown, so do not resend: {e}"),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}
