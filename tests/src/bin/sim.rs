//! `./run sim --seeds 10000` runs many random clusters, `./run sim --seed N` replays one with a readable trace;
//! `--ci` runs a fixed set and, for a while, new ones.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use syncer_tests::sim;

const USAGE: &str = "usage: sim --seeds N [--from N] [--seconds N] | --seed N | --ci";

/// The set that CI always runs, one with patches, one with hot counters, one with keys that always have a TTL, one where servers drop what
/// is due, and one where newcomers join by a sponsor.
const CI_SEEDS: u64 = 3000;
const CI_PATCH_SEEDS: u64 = 1500;
const CI_HOT_SEEDS: u64 = 600;
const CI_SHORT_LIVED_SEEDS: u64 = 1000;
const CI_DROP_SEEDS: u64 = 1000;
const CI_SPONSOR_SEEDS: u64 = 1000;
/// Seeds that failed once, of the classes that docs/SEEDS.md tells of as mended.
const MENDED: [u64; 165] = [
    34_359_740_478,
    34_359_843_708,
    22_007_463,
    13_103_011_115,
    13_107_107_783,
    30_700_106_892,
    22_000_731,
    30_600_014_424,
    10_890_227_997_475_704,
    30_201_506_169,
    13_104_004_425,
    26_106_506_289,
    30_201_113_814,
    30_200_002_065,
    30_064_771_128,
    30_064_771_234,
    30_064_773_726,
    30_064_774_764,
    30_064_781_759,
    30_064_800_351,
    10_890_208_907_102_541,
    26_108_002_755,
    26_107_006_770,
    6_386_589_968_108_059,
    6_386_590_100_001_744,
    8_802_001_020,
    17_406_004_575,
    25_900_025_433,
    26_100_022_380,
    26_100_027_075,
    13_100_301_126,
    26_100_089_583,
    8_800_106_760,
    6_386_590_028_926_563,
    13_100_201_316,
    26_100_500_345,
    12_950_002_590,
    26_100_040_914,
    8_800_049_940,
    13_100_027_277,
    8_800_025_763,
    6_386_574_782_633_355,
    17_400_088_242,
    26_100_133_799,
    17_400_209_922,
    17_400_027_156,
    8_800_133_964,
    4_400_011_059,
    12_951_001_385,
    8_650_004_419,
    17_250_030_107,
    12_950_011_581,
    17_250_012_933,
    17_250_040_338,
    25_900_040_847,
    12_950_044_449,
    25_900_057_572,
    25_900_057_656,
    1_882_935_980_458_173,
    25_770_001_620,
    25_770_101_793,
    25_770_102_726,
    25_780_026_618,
    6_386_550_898_167_155,
    17_183_008_695,
    17_183_028_883,
    12_893_030_179,
    8_603_006_819,
    25_769_902_286,
    6_386_550_614_001_301,
    25_770_001_706,
    6_386_550_614_004_369,
    25_769_903_444,
    6_386_546_375_656_866,
    25_769_804_253,
    25_769_806_551,
    8_589_935_532,
    8_601_007_155,
    1_882_936_580_248_824,
    8_601_004_332,
    25_769_804_198,
    25_769_821_183,
    12_890_019_011,
    12_890_030_933,
    17_180_404_843,
    103_198,
    157_686,
    4_295_016_351,
    4_295_015_264,
    4_295_066_190,
    101_397,
    183_332,
    4_295_009_936,
    103_646,
    105_643,
    8_589_935_223,
    8_589_940_092,
    4_295_013_715,
    182_243,
    201_929,
    206_219,
    301_050,
    500_292,
    479,
    1_016_747,
    4_294_967_911,
    4_295_002_884,
    4_295_017_549,
    4_295_033_256,
    4_295_042_635,
    4_295_044_676,
    4_295_046_476,
    4_295_068_254,
    4_295_084_814,
    4_295_099_022,
    4_295_205_451,
    4_296_008_751,
    4_296_011_203,
    4_296_011_659,
    8_589_940_206,
    1_882_888_679_198_166,
    1_882_898_756_011_518,
    1_882_898_756_012_154,
    1_882_898_756_016_693,
    1_882_900_972_701_342,
    1_882_900_972_702_623,
    1_004_572,
    1_034_052,
    1_035_779,
    4_297_002_323,
    4_298_005_571,
    1_882_912_093_911_804,
    12_884_905_915,
    1_048_867,
    2_124_375,
    2_202_063,
    4_299_018_595,
    1_882_920_010_046_820,
    17_180_009_192,
    1_882_922_039_644_723,
    1_882_922_039_644_797,
    1_882_923_498_211_481,
    1_882_923_149_036_267,
    4_294_969_729,
    8_589_934_731,
    8_589_934_737,
    8_589_934_785,
    8_589_934_938,
    4_301_514_327,
    8_601_509_287,
    1_882_924_759_646_579,
    21_474_841_479,
    4_301_503_299,
    12_891_028_491,
    12_891_013_111,
    4_300_030_364,
    4_300_031_337,
    1_882_940_738_901_079,
    26_102_001_876,
    26_106_005_388,
    26_106_129_247,
    8_805_506_451,
    30_201_007_419,
    13_107_008_997,
    17_406_133_791,
];
/// How long CI looks for news.
const CI_SECONDS: u64 = 30;
/// So many new seeds may fail in that time, some 8,000: one in 500,000 still does (docs/SIMULATION.md). They are told all the same.
const CI_NEWS_MAX: usize = 1;
/// And in so many a write may be lost, or something that was removed come back: one in 100,000 still does, and perhaps one in 30,000 of those with hot counters.
const CI_LOSSES_MAX: usize = 2;
/// How such a failure begins.
const LOSS: &str = "a write is lost";

#[derive(Clone, Copy)]
struct Args {
    seeds: u64,
    from: u64,
    seconds: Option<u64>,
    one: Option<u64>,
    ci: bool,
}

fn parse() -> Option<Args> {
    let mut args = Args { seeds: 1000, from: 0, seconds: None, one: None, ci: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--ci" {
            return Some(Args { seeds: CI_SEEDS, ci: true, ..args });
        }
        let value = words.next()?.parse().ok()?;
        match word.as_str() {
            "--seeds" => args.seeds = value,
            "--from" => args.from = value,
            "--seconds" => args.seconds = Some(value),
            "--seed" => args.one = Some(value),
            _ => return None,
        }
    }
    Some(args)
}

/// Other ones every time.
fn new_seeds() -> Args {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Args {
        seeds: u64::MAX / 2,
        from: sim::plan::NEW_SEEDS_FROM + (now.as_secs() << 20),
        seconds: Some(CI_SECONDS),
        one: None,
        ci: false,
    }
}

/// A panic is a failure of its seed, too.
fn run(seed: u64, trace: bool) -> sim::Check {
    std::panic::catch_unwind(|| sim::run(seed, trace)).unwrap_or_else(|_| Err("it panicked, see above".into()))
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut failed = match args.one {
        Some(seed) => run(seed, true).err().map(|why| (seed, why)).into_iter().collect(),
        None => run_many(&args),
    };
    if args.ci {
        let more = [
            (sim::plan::WITH_PATCHES_FROM, CI_PATCH_SEEDS),
            (sim::plan::WITH_HOT_FROM, CI_HOT_SEEDS),
            (sim::plan::WITH_SHORT_LIVED.start, CI_SHORT_LIVED_SEEDS),
            (sim::plan::WITH_DROPS.start, CI_DROP_SEEDS),
            (sim::plan::WITH_SPONSORS.start, CI_SPONSOR_SEEDS),
        ];
        for (from, seeds) in more {
            failed.extend(run_many(&Args { from, seeds, ..args }));
        }
        failed.extend(MENDED.into_iter().filter_map(|seed| Some((seed, run(seed, false).err()?))));
        println!("{} seeds that failed once", MENDED.len());
        let news = run_many(&new_seeds());
        let losses = news.iter().filter(|(_, why)| why.starts_with(LOSS)).count();
        if news.len() - losses > CI_NEWS_MAX || losses > CI_LOSSES_MAX {
            failed.extend(news);
        } else {
            print(&news);
        }
    }
    print(&failed);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(failed: &[(u64, String)]) {
    for (seed, why) in failed {
        println!("seed {seed} failed: {why}\n  replay it: ./run sim --seed {seed}");
    }
}

/// Stops at the first few failures; they often have one cause.
fn run_many(args: &Args) -> Vec<(u64, String)> {
    const FAILURES_MAX: usize = 12;
    let next = AtomicU64::new(args.from);
    let failed = std::sync::Mutex::new(Vec::new());
    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = end.is_some_and(|end| Instant::now() >= end);
                    let enough = failed.lock().is_ok_and(|failed| failed.len() >= FAILURES_MAX);
                    if seed - args.from >= args.seeds || is_over || enough {
                        break;
                    }
                    if let (Err(why), Ok(mut failed)) = (run(seed, false), failed.lock()) {
                        failed.push((seed, why));
                    }
                }
            });
        }
    });
    let ran = next.load(Ordering::Relaxed).saturating_sub(args.from + threads as u64);
    let mut failed = failed.into_inner().unwrap_or_default();
    failed.sort();
    println!("{ran} seeds, {} failed", failed.len());
    failed
}
