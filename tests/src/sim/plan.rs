//! What a seed decides before the first step.

use syncer_shared::merge::Rules;

/// The shape of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of the random numbers.
    pub seed: u64,
    /// 2 to 5.
    pub instances: u8,
    /// Random events before healing.
    pub steps: u32,
    /// Size of the backlogs.
    pub backlog_bytes: u64,
    /// TTLs, expiry.
    pub ttl: bool,
    /// Streams, besides all else.
    pub streams: bool,
    /// Strings are changed in part, too.
    pub patches: bool,
    /// Some elements are incremented over and over, and full syncs are asked for by hand.
    pub hot: bool,
    /// Keys that always have a TTL, besides.
    pub short_lived: bool,
    /// Servers load files and drop what is due (`shard/dropped.rs`). Clocks agree then: what a clock ahead of the others' drops is in need of no one.
    pub drops: bool,
    /// `FLUSHALL`, `FLUSHDB`.
    pub flush: bool,
    /// Primaries fail over to replicas that lag.
    pub failover: Failover,
    /// Wall clocks that jump.
    pub clock_jumps: bool,
    /// One more instance joins after so many steps.
    pub joins_after: Option<u32>,
    /// That one as an operator lets it, by a sponsor, with data of its own or without; else it is a late comer.
    pub joins_by_sponsor: bool,
    /// Lists, too.
    pub lists: bool,
    /// Metadata is pruned at random times; else never.
    pub prune: bool,
    /// Instances 1 and 2 are forgotten now and then.
    pub forgets: bool,
    /// Who was forgotten joins again now and then, also while servers fail over.
    pub rejoins: bool,
    /// The controls.
    pub rules: Rules,
}

/// What a failover may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// There is none.
    Never,
    /// What no peer was told of (2.2 rule 1).
    LosesUnreported,
    /// Anything: an old backup comes back (2.2 rule 5).
    LosesAnything,
}

/// From this seed on strings are changed in part: what earlier seeds do stays as it was.
pub const WITH_PATCHES_FROM: u64 = 1 << 32;
/// From this seed on every third has hot counters.
pub const WITH_HOT_FROM: u64 = 1 << 33;

/// From this seed on who was forgotten joins again.
pub const WITH_REJOINS_FROM: u64 = 3 << 32;
/// From this seed on there are late comers and full syncs besides.
pub const WITH_MORE_FORGETS_FROM: u64 = 4 << 32;
/// These seeds write keys that never show without a TTL, and all that come later.
pub const WITH_SHORT_LIVED: std::ops::Range<u64> = 6 << 32..7 << 32;
/// In these servers drop keys as they load their files, and in all from [`DROPS_FROM`] on.
pub const WITH_DROPS: std::ops::Range<u64> = 7 << 32..8 << 32;
/// In these newcomers join by a sponsor, and in half of all from [`NEW_SEEDS_FROM`] on.
pub const WITH_SPONSORS: std::ops::Range<u64> = 8 << 32..9 << 32;
/// Where CI took new seeds from before that.
const SHORT_LIVED_FROM: u64 = 1 << 52;
/// And after that.
pub const DROPS_FROM: u64 = 1 << 53;
/// Where CI takes new seeds from; what was found before keeps its meaning.
pub const NEW_SEEDS_FROM: u64 = 1 << 54;

impl Plan {
    /// Everything that can happen, by chance.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let small_backlog = random.u8(0..3) == 0;
        let mut plan = Self {
            seed,
            instances: *random.choice(&[2, 3, 3, 3, 4, 5]).unwrap_or(&3),
            steps: random.u32(100..600),
            backlog_bytes: if small_backlog { random.u64(500..8000) } else { 1 << 30 },
            ttl: random.bool(),
            streams: seed % 4 == 3,
            patches: seed >= WITH_PATCHES_FROM,
            hot: seed >= WITH_HOT_FROM && seed.is_multiple_of(3),
            short_lived: WITH_SHORT_LIVED.contains(&seed) || WITH_DROPS.contains(&seed) || seed >= SHORT_LIVED_FROM,
            drops: false,
            flush: random.u8(0..4) == 0,
            failover: match random.u8(0..6) {
                0 => Failover::LosesAnything,
                1 | 2 => Failover::LosesUnreported,
                _ => Failover::Never,
            },
            clock_jumps: random.bool(),
            joins_after: (!small_backlog && random.u8(0..4) == 0).then(|| random.u32(0..300)),
            joins_by_sponsor: WITH_SPONSORS.contains(&seed) || (seed >= NEW_SEEDS_FROM && seed.is_multiple_of(2)),
            prune: random.u8(0..5) != 0,
            forgets: false,
            rejoins: false,
            lists: false,
            rules: Rules::default(),
        };
        if plan.joins_by_sponsor {
            // Into whatever the group does, full syncs and hot counters too.
            plan.joins_after = (random.u8(0..2) == 0).then(|| random.u32(0..300));
        } else if plan.hot {
            plan.joins_after = None;
        }
        // Drawn last, so that older seeds play what they did.
        // At first not with late comers or full syncs: see docs/SIMULATION.md.
        let is_plain = seed >= WITH_MORE_FORGETS_FROM || (plan.joins_after.is_none() && !plan.forces_full_syncs());
        let may_forget = plan.instances > 2 && plan.failover != Failover::LosesAnything && is_plain;
        plan.forgets = may_forget && random.u8(0..4) == 0;
        // Nor do late comers and who joins again meet.
        plan.rejoins = plan.forgets && seed >= WITH_REJOINS_FROM && plan.joins_after.is_none();
        plan.lists = random.bool();
        // Whose backup is from before its own Join, or whose sponsor is forgotten meanwhile, has to join again: an operator sees to that.
        if plan.joins_by_sponsor && (plan.failover == Failover::LosesAnything || plan.forgets) {
            (plan.joins_by_sponsor, plan.joins_after) = (false, None);
        }
        let may_drop = WITH_DROPS.contains(&seed) || seed >= DROPS_FROM;
        plan.drops = may_drop && plan.ttl && !plan.clock_jumps;
        plan
    }

    /// Whether the backlog is so small that reading on becomes impossible now and then.
    #[must_use]
    pub const fn forces_full_syncs(&self) -> bool {
        self.backlog_bytes < 1 << 30 || self.hot
    }
}
