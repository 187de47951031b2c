//! A whole switchboard from one configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::table::{Table, noted, read_all};
use super::budgets::Budgets;
use super::directory::OptOutReach;
use super::limits::Limits;
use super::store::Store;
use super::{Builder, Line, Switchboard, check};
use crate::channel::Channel;
use crate::context::Context;
use crate::media::FolderStore;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use crate::policy::auto_reply;
use crate::policy::budgets::Budget;
use crate::policy::hours::{self, Hours};
use crate::policy::rules::{Places, QuietHours, Rules};
use crate::policy::tariffs::Tariffs;
use crate::registry::Registry;
use crate::settings::{self, Settings, nearest};

mod errors;
mod table;

pub use errors::SettingsErrors;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A checked configuration of a switchboard, of which nothing has been opened yet.
///
/// | table | fields |
/// |---|---|
/// | | `pepper`: see [`Builder::pepper`] |
/// | `[store]` | `url`: see [`Store::open`] |
/// | `[media]` | `folder`, for the files of messages: a [`FolderStore`]. Without it files are not fetched |
/// | `[gateways.NAME]` | the settings that all channels of this gateway share, unless they have their own |
/// | `[defaults]` | `controller`, `languages`, `retention_days`, `hours`, `auto_reply`, `opt_out_reach`, `emergencies_despite_opt_out`, `marketing_without_consent`: of each line that lacks them |
/// | `[lines.ID]` | these, and `name`: see [`Line`] |
/// | `[lines.ID.receive_by]` | `webhook`, `poll` or `both` by gateway: see [`Line::receive_by`] |
/// | `[lines.ID.hours]` | the fields of [`hours::OpeningTimes`] |
/// | `[lines.ID.auto_reply]` | the fields of [`auto_reply::ReplyTexts`] |
/// | `[[lines.ID.channels]]` | `gateway`, `medium` and the gateway's own settings. Several of one medium are suppliers, the preferred one first |
/// | `[routes]` | the lines of each route: see [`Builder::route`] |
/// | `[[budgets]]` | `name`; `messages`, `segments` or `money = "250.00 GBP"`; `per`: `day`, `month`, `year` or `financial_year`; and, to limit it, `lines`, `medium`, `tag`; `exempt`, purposes; `at_cap`: `refuse` or `wait`. See [`Budget`] |
/// | `[[tariffs]]` | prices of the council's contracts, beside the public ones: see [`Tariffs`] |
/// | `[rules]` | `places = { countries = ["353"] }` and `quiet_hours = { from = "21:00", until = "08:00" }`: see [`Rules`]; `frequency = { messages = 3, days = 7 }` and `bursts = {}`: see [`limits`](crate::policy::limits); `windows = true`: see [`Builder::windows`] |
///
/// Every text may be `{ env = "NAME" }` or `{ file = "PATH" }`: see [`Settings`]. Paths are relative to the working
/// directory.
///
/// ```
/// use civic_messaging::switchboard::Configuration;
/// use civic_messaging::{Context, Registry, Settings};
///
/// # #[cfg(all(feature = "notify", feature = "reqwest", feature = "sqlite-system", feature = "toml"))] {
/// let settings = Settings::from_toml(r#"
///     [store]
///     url = "sqlite:council.db"
///
///     [lines.enquiries]
///     controller = "Exampleshire Council"
///     hours = { week = ["Mon-Fri 09:00-17:00"], bank_holidays = "england_and_wales" }
///     auto_reply.signpost.en = "In an emergency call 999."
///
///     [[lines.enquiries.channels]]
///     gateway = "notify"
///     medium = "sms"
///     api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
///     template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
///     callback_tokens = "the-token-of-our-callbacks"
///
///     [routes]
///     notify = ["enquiries"]
/// "#)?;
/// let configuration = Configuration::new(&settings, &Registry::standard(), &Context::new())?;
/// assert_eq!(configuration.lines()[0].controller.as_deref(), Some("Exampleshire Council"));
/// assert_eq!((configuration.store_file(), configuration.media_folder()), (Some(std::path::Path::new("council.db")), None));
/// // let switchboard = configuration.open().await?.build()?;
///
/// let wrong = settings.set("lines.enquiries.hourse", "Mon-Fri").set("routes.meta", "enquiries");
/// let errors = Configuration::new(&wrong, &Registry::standard(), &Context::new()).unwrap_err();
/// assert_eq!(errors.errors()[0].to_string(), "lines.enquiries.hourse: unknown field; did you mean hours?");
/// assert_eq!(errors.errors().len(), 2);
/// # }
/// # Ok::<(), civic_messaging::Error>(())
/// ```
pub struct Configuration {
    settings: Settings,
    registry: Registry,
    context: Context,
    parts: Parts,
}

/// What a configuration describes.
struct Parts {
    url: Secret,
    folder: Option<PathBuf>,
    pepper: Option<Secret>,
    lines: Vec<Line>,
    routes: Vec<(String, Vec<String>)>,
    rules: Option<Rules>,
    limits: Limits,
    budgets: Vec<Budget>,
    tariffs: Option<Tariffs>,
}

impl Configuration {
    /// Reads and checks a configuration. Gateways come from the registry, and their transport, clock and stores from the
    /// context.
    ///
    /// It opens no store, creates no folder and makes no request.
    ///
    /// # Errors
    /// All errors of the configuration at once: see [`SettingsErrors`].
    pub fn new(settings: &Settings, registry: &Registry, context: &Context) -> Result<Self, SettingsErrors> {
        let parts = read(settings, registry, context)?;
        Ok(Self { settings: settings.clone(), registry: registry.clone(), context: context.clone(), parts })
    }

    /// Returns the lines.
    pub fn lines(&self) -> &[Line] {
        &self.parts.lines
    }

    /// Returns the routes, each with its lines.
    pub fn routes(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.parts.routes.iter().map(|(name, lines)| (&**name, &**lines))
    }

    /// Returns the file of a SQLite store, or `None` for another store.
    pub fn store_file(&self) -> Option<&Path> {
        let path = self.parts.url.expose().strip_prefix("sqlite:")?;
        Some(Path::new(path)).filter(|path| *path != Path::new(":memory:"))
    }

    /// Returns the folder for the files of messages, if it is set.
    pub fn media_folder(&self) -> Option<&Path> {
        self.parts.folder.as_deref()
    }

    /// Opens the store alone, for what needs no lines, such as [`Store::hold_after_restore`].
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub async fn open_store(&self) -> Result<Store> {
        Store::open(self.parts.url.expose()).await
    }

    /// Opens the store, and returns a builder to which more can be added. A policy set there replaces the `[rules]`. The folder of `[media]` is
    /// also the [`Context::media`] of the channels.
    ///
    /// # Errors
    /// Those of [`FolderStore::new`] and [`Store::open`].
    pub async fn open(self) -> Result<Builder> {
        let Self { settings, registry, mut context, mut parts } = self;
        let mut media = None;
        if let Some(folder) = parts.folder.take() {
            let folder = FolderStore::new(folder)?;
            context = context.media(folder.clone());
            // Channels of the same settings, with this context.
            parts = read(&settings, &registry, &context)?;
            media = Some(folder);
        }
        let mut builder = Switchboard::builder(Store::open(parts.url.expose()).await?);
        (builder.clock, builder.random) = (context.clock, context.random);
        (builder.lines, builder.routes, builder.pepper) = (parts.lines, parts.routes, parts.pepper);
        (builder.budgets, builder.tariffs) = (parts.budgets, parts.tariffs);
        builder.limits = parts.limits;
        if let Some(rules) = parts.rules {
            builder = builder.policy(rules);
        }
        Ok(match media {
            Some(folder) => builder.media(folder),
            None => builder,
        })
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration")
            .field("lines", &self.parts.lines.iter().map(|line| &line.id).collect::<Vec<_>>())
            .field("routes", &self.parts.routes)
            .finish_non_exhaustive()
    }
}

impl Switchboard {
    /// Opens the switchboard that one configuration describes: see [`Configuration`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with all errors of the configuration: nothing is opened or
    /// created then. Those of [`Configuration::open`].
    pub async fn from_settings(settings: &Settings, registry: &Registry, context: &Context) -> Result<Self> {
        Configuration::new(settings, registry, context)?.open().await?.build()
    }
}

/// Reads the whole configuration.
fn read(file: &Settings, registry: &Registry, context: &Context) -> Result<Parts, SettingsErrors> {
    let (mut file, mut errors) = (Table::new("", file.0.clone()), Vec::new());
    let mut url = None;
    match file.table("store", &mut errors) {
        None if errors.is_empty() => errors.push(Error::config("store.url", "is missing")),
        None => {}
        Some(mut store) => {
            url = store.required::<Secret>("url", &mut errors);
            let checked = url.as_ref().map(|url| Store::check_url(url.expose()).map_err(|e| e.with_field("store.url")));
            checked.and_then(|checked| noted(checked, &mut errors));
            store.finish(&mut errors);
        }
    }
    let folder = file.table("media", &mut errors).and_then(|mut media| {
        let folder = media.required::<PathBuf>("folder", &mut errors);
        media.finish(&mut errors);
        folder
    });
    let pepper = file.read("pepper", &mut errors);
    let gateways = file.tables("gateways", &mut errors);
    let gateways = gateways.into_iter().map(|(name, table)| (name, table.into_fields().1)).collect();
    let mut channels = Channels { registry, context, gateways, used: BTreeSet::new() };
    let mut incomplete = BTreeSet::new();
    let before = errors.len();
    let defaults = file.table("defaults", &mut errors).map(|mut table| {
        let defaults = Common::read(&mut table, &mut errors);
        table.finish(&mut errors);
        defaults
    });
    let defaults = defaults.unwrap_or_default();
    let are_certain = errors.len() == before;
    let mut lines = Vec::new();
    for (id, table) in file.tables("lines", &mut errors) {
        let before = errors.len();
        let line = line(&id, table, &defaults, &mut channels, &mut errors);
        if errors.len() > before || !are_certain {
            incomplete.insert(id);
        }
        lines.push(line);
    }
    channels.finish(&mut errors);
    let routes = file.table("routes", &mut errors).map(Table::into_fields).unwrap_or_default().1;
    let route = |(name, value): (String, Value)| {
        let lines = settings::value::<Vec<String>>(&format!("routes.{name}"), value);
        noted(lines, &mut errors).map(|lines| (name, lines))
    };
    let routes: Vec<_> = routes.into_iter().filter_map(route).collect();
    let mut limits = Limits::default();
    let rules = file.table("rules", &mut errors).map(|mut table| {
        let mut rules = Rules::new();
        if let Some(places) = table.read::<Places>("places", &mut errors) {
            rules = rules.rule(places);
        }
        if let Some(quiet_hours) = table.read::<QuietHours>("quiet_hours", &mut errors) {
            rules = rules.rule(quiet_hours);
        }
        limits.frequency = table.read("frequency", &mut errors);
        limits.bursts = table.read("bursts", &mut errors);
        limits.has_windows = table.read("windows", &mut errors).unwrap_or_default();
        table.finish(&mut errors);
        rules
    });
    let tariffs = tariffs(&mut file, &mut errors);
    let before = errors.len();
    let budgets: Vec<_> = file
        .list("budgets", &mut errors)
        .into_iter()
        .filter_map(|table| {
            let (path, fields) = table.into_fields();
            read_all(&path, fields, &mut errors, |_| None, Budget::from_settings)
        })
        .collect();
    let are_budgets_certain = errors.len() == before && incomplete.is_empty();
    file.finish(&mut errors);
    errors.extend(check::faults(&lines, &routes, &incomplete));
    if are_budgets_certain && let Some(checked) = noted(Budgets::new(budgets.clone(), tariffs.clone()), &mut errors) {
        errors.extend(checked.faults(&lines));
    }
    match url {
        Some(url) if errors.is_empty() => {
            Ok(Parts { url, folder, pepper, lines, routes, rules, limits, budgets, tariffs })
        }
        _ => Err(SettingsErrors::new(errors)),
    }
}

/// Reads the council's own prices, beside the public ones.
fn tariffs(file: &mut Table, errors: &mut Vec<Error>) -> Option<Tariffs> {
    let own = file.take("tariffs")?;
    let settings = Settings(Map::from_iter([("tariffs".to_owned(), own)]));
    noted(Tariffs::standard().and_then(|standard| standard.with_settings(&settings)), errors)
}

/// The settings that lines have in common.
#[derive(Default)]
struct Common {
    controller: Option<String>,
    languages: Option<Vec<String>>,
    retention: Option<Duration>,
    hours: Option<Hours>,
    auto_reply: Option<auto_reply::ReplyTexts>,
    opt_out_reach: Option<OptOutReach>,
    emergencies_despite_opt_out: Option<bool>,
    marketing_without_consent: Option<bool>,
}

impl Common {
    fn read(table: &mut Table, errors: &mut Vec<Error>) -> Self {
        let controller = table.read("controller", errors);
        let languages = table.read("languages", errors);
        let retention = table.read::<u32>("retention_days", errors).map(|days| DAY * days);
        let hours = table.table("hours", errors).and_then(|hours| {
            let (path, fields) = hours.into_fields();
            let stand_in =
                |field: &str| field.starts_with("week").then(|| ("week", Value::from(vec!["Mon 09:00-17:00"])));
            read_all(&path, fields, errors, stand_in, |settings| Hours::new(&settings.read::<hours::OpeningTimes>()?))
        });
        let auto_reply = table.table("auto_reply", errors).and_then(|texts| {
            let (path, fields) = texts.into_fields();
            let stand_in = |field: &str| {
                let places = ["signpost.cy", "signpost.en", "text.cy", "text.en"];
                let place = places.into_iter().find(|place| *place == field)?;
                Some((place, if place.starts_with("signpost") { Value::from("999") } else { Value::Null }))
            };
            read_all(&path, fields, errors, stand_in, |settings| {
                let texts = settings.read::<auto_reply::ReplyTexts>()?;
                texts.check().map(|()| texts)
            })
        });
        let opt_out_reach = table.read("opt_out_reach", errors);
        let emergencies_despite_opt_out = table.read("emergencies_despite_opt_out", errors);
        let marketing_without_consent = table.read("marketing_without_consent", errors);
        Self {
            controller,
            languages,
            retention,
            hours,
            auto_reply,
            opt_out_reach,
            emergencies_despite_opt_out,
            marketing_without_consent,
        }
    }
}

/// Reads a line.
fn line(id: &str, mut table: Table, defaults: &Common, channels: &mut Channels<'_>, errors: &mut Vec<Error>) -> Line {
    let mut line = Line::new(id);
    if let Some(name) = table.read("name", errors) {
        line.name = name;
    }
    let own = Common::read(&mut table, errors);
    line.controller = own.controller.or_else(|| defaults.controller.clone());
    line.languages = own.languages.or_else(|| defaults.languages.clone()).unwrap_or_default();
    line.retention = own.retention.or(defaults.retention);
    line.hours = own.hours.or_else(|| defaults.hours.clone());
    line.auto_reply = own.auto_reply.or_else(|| defaults.auto_reply.clone());
    line.opt_out_reach = own.opt_out_reach.or(defaults.opt_out_reach).unwrap_or_default();
    let emergencies = own.emergencies_despite_opt_out.or(defaults.emergencies_despite_opt_out);
    line.emergencies_despite_opt_out = emergencies.unwrap_or_default();
    let marketing = own.marketing_without_consent.or(defaults.marketing_without_consent);
    line.marketing_without_consent = marketing.unwrap_or_default();
    line.receive_by = table.read("receive_by", errors).unwrap_or_default();
    for channel in table.list("channels", errors) {
        line.channels.extend(channels.connect(channel, errors));
    }
    table.finish(errors);
    line
}

/// Connects channels, with the settings that those of a gateway share.
struct Channels<'r> {
    registry: &'r Registry,
    context: &'r Context,
    gateways: BTreeMap<String, Map<String, Value>>,
    /// The gateways of which there is a channel.
    used: BTreeSet<String>,
}

impl Channels<'_> {
    fn connect(&mut self, table: Table, errors: &mut Vec<Error>) -> Option<Arc<dyn Channel>> {
        let (path, own) = table.into_fields();
        if own.contains_key("suppliers") {
            let rule = "is not for a line: list each supplier as a channel of its own, the preferred one first";
            errors.push(Error::config(format!("{path}.suppliers"), rule));
            return None;
        }
        let mut fields = own.clone();
        let gateway = own.get("gateway").and_then(Value::as_str).unwrap_or_default();
        if let Some(near) = nearest(gateway, self.registry.gateways()).filter(|near| *near != gateway) {
            // What is shared under the name that was meant is not unused.
            self.used.insert(near.to_owned());
            let rule = format!("unknown gateway; did you mean {near}?");
            errors.push(Error::config(format!("{path}.gateway"), rule));
            return None;
        }
        if let Some(shared) = self.gateways.get(gateway) {
            self.used.insert(gateway.to_owned());
            for (name, value) in shared {
                fields.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut found = Vec::new();
        let channel =
            read_all("", fields, &mut found, |_| None, |settings| self.registry.connect(settings, self.context));
        for error in found {
            let field = error.field().unwrap_or_default();
            let name = field.split(['.', '[']).next().unwrap_or_default();
            let shared = self.gateways.get(gateway).is_some_and(|shared| shared.contains_key(name));
            let path = if shared && !own.contains_key(name) { format!("gateways.{gateway}") } else { path.clone() };
            let field = if field.is_empty() { path } else { format!("{path}.{field}") };
            // Channels that share a faulty setting have one error.
            if !errors.iter().any(|error| error.field() == Some(&*field)) {
                errors.push(error.with_field(field));
            }
        }
        channel
    }

    /// Reports shared settings that no channel has.
    fn finish(self, errors: &mut Vec<Error>) {
        for name in self.gateways.keys().filter(|name| !self.used.contains(*name)) {
            let near = nearest(name, self.registry.gateways()).filter(|near| near != name);
            let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            errors.push(Error::config(format!("gateways.{name}"), format!("is the gateway of no channel{hint}")));
        }
    }
}
