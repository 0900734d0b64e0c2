//! What people call themselves, each list from the commonest to the rarest.

use super::rng::SeededRng;

/// Surnames in the order of how many people bear them, with their sound.
const SURNAMES: &[(&str, &str)] = &[
    ("王", "wang"),
    ("李", "li"),
    ("张", "zhang"),
    ("刘", "liu"),
    ("陈", "chen"),
    ("杨", "yang"),
    ("黄", "huang"),
    ("赵", "zhao"),
    ("吴", "wu"),
    ("周", "zhou"),
    ("徐", "xu"),
    ("孙", "sun"),
    ("马", "ma"),
    ("朱", "zhu"),
    ("胡", "hu"),
    ("郭", "guo"),
    ("何", "he"),
    ("林", "lin"),
    ("罗", "luo"),
    ("高", "gao"),
    ("郑", "zheng"),
    ("梁", "liang"),
    ("谢", "xie"),
    ("宋", "song"),
    ("唐", "tang"),
    ("许", "xu"),
    ("韩", "han"),
    ("冯", "feng"),
    ("邓", "deng"),
    ("曹", "cao"),
    ("彭", "peng"),
    ("曾", "zeng"),
    ("肖", "xiao"),
    ("田", "tian"),
    ("董", "dong"),
    ("袁", "yuan"),
    ("潘", "pan"),
    ("于", "yu"),
    ("蒋", "jiang"),
    ("蔡", "cai"),
    ("余", "yu"),
    ("杜", "du"),
    ("叶", "ye"),
    ("程", "cheng"),
    ("苏", "su"),
    ("魏", "wei"),
    ("吕", "lv"),
    ("丁", "ding"),
    ("任", "ren"),
    ("沈", "shen"),
    ("姚", "yao"),
    ("卢", "lu"),
    ("姜", "jiang"),
    ("崔", "cui"),
    ("欧阳", "ouyang"),
    ("司马", "sima"),
    ("诸葛", "zhuge"),
    ("上官", "shangguan"),
    ("皇甫", "huangfu"),
    ("逯", "lu"),
    ("仉", "zhang"),
    ("亓官", "qiguan"),
];

/// Characters of given names.
const GIVEN: &[(&str, &str)] = &[
    ("伟", "wei"),
    ("芳", "fang"),
    ("敏", "min"),
    ("静", "jing"),
    ("丽", "li"),
    ("强", "qiang"),
    ("磊", "lei"),
    ("军", "jun"),
    ("洋", "yang"),
    ("勇", "yong"),
    ("艳", "yan"),
    ("杰", "jie"),
    ("娟", "juan"),
    ("涛", "tao"),
    ("明", "ming"),
    ("超", "chao"),
    ("秀", "xiu"),
    ("霞", "xia"),
    ("平", "ping"),
    ("刚", "gang"),
    ("桂", "gui"),
    ("英", "ying"),
    ("华", "hua"),
    ("文", "wen"),
    ("玉", "yu"),
    ("兰", "lan"),
    ("红", "hong"),
    ("建", "jian"),
    ("国", "guo"),
    ("志", "zhi"),
    ("梅", "mei"),
    ("云", "yun"),
    ("浩", "hao"),
    ("宇", "yu"),
    ("欣", "xin"),
    ("怡", "yi"),
    ("子", "zi"),
    ("轩", "xuan"),
    ("梓", "zi"),
    ("涵", "han"),
    ("佳", "jia"),
    ("雨", "yu"),
    ("晨", "chen"),
    ("雪", "xue"),
    ("琳", "lin"),
    ("嘉", "jia"),
    ("俊", "jun"),
    ("晓", "xiao"),
    ("春", "chun"),
    ("海", "hai"),
    ("燕", "yan"),
    ("鹏", "peng"),
    ("飞", "fei"),
    ("鑫", "xin"),
    ("波", "bo"),
    ("斌", "bin"),
    ("婷", "ting"),
    ("思", "si"),
    ("瑞", "rui"),
    ("凯", "kai"),
    ("一", "yi"),
    ("诺", "nuo"),
    ("若", "ruo"),
    ("曦", "xi"),
    ("沐", "mu"),
    ("辰", "chen"),
    ("星", "xing"),
    ("月", "yue"),
    ("乐", "le"),
    ("安", "an"),
    ("宁", "ning"),
    ("书", "shu"),
    ("瑶", "yao"),
    ("薇", "wei"),
    ("岚", "lan"),
    ("翰", "han"),
    ("煜", "yu"),
    ("焱", "yan"),
    ("祎", "yi"),
    ("骁", "xiao"),
    ("珺", "jun"),
    ("玥", "yue"),
    ("彧", "yu"),
    ("翀", "chong"),
    ("赟", "yun"),
    ("昶", "chang"),
    ("煊", "xuan"),
    ("劼", "jie"),
    ("旻", "min"),
    ("龘", "da"),
];

const PHRASES: &[&str] = &[
    "你今天真好看",
    "一期一会",
    "小确幸",
    "爱吃西瓜的猫",
    "风继续吹",
    "愿所有美好都如期而至呀",
    "追光者",
    "南方有嘉木",
    "今天也要好好吃饭睡觉哦",
    "人间值得",
    "没有人比我更懂摸鱼的艺术",
    "山高水长",
];

const FIRST: &[&str] = &[
    "Anna",
    "Tom",
    "Maria",
    "David",
    "Laura",
    "Daniel",
    "Sofia",
    "James",
    "Emma",
    "Lucas",
    "Julia",
    "Alexander",
    "Sarah",
    "Michael",
    "Lea",
    "Jonas",
    "Mia",
    "Christopher",
    "Elena",
    "Paul",
    "José",
    "Zoë",
    "Łukasz",
    "Chloé",
    "Søren",
    "Bartholomew",
    "Xanthippe",
    "Wilhelmina",
];

const LAST: &[&str] = &[
    "Smith",
    "Müller",
    "Garcia",
    "Martin",
    "Silva",
    "Rossi",
    "Novak",
    "Jensen",
    "Kowalski",
    "Andersson",
    "Dubois",
    "Nguyen",
    "O'Brien",
    "Van Dijk",
    "Papadopoulos",
    "Featherstone",
];

const EMOJI: &[&str] = &[
    "🌸",
    "😊",
    "✨",
    "🦊",
    "🌻",
    "🎉",
    "🐱",
    "🍀",
    "🌙",
    "🔥",
    "👨‍👩‍👧",
    "🏳️‍🌈",
    "🇨🇳",
    "🦄",
];

const OTHERS: &[&str] = &[
    "さくら",
    "민준",
    "Ольга",
    "ゆい",
    "서연",
    "Дмитрий",
    "Αλέξανδρος",
    "سارة",
    "นภา",
    "אביגיל",
];

/// What a person is called: what is shown, and what an address is made of.
pub(super) struct Name {
    pub nickname: String,
    pub latin: String,
}

/// A name: most are Chinese, of two to four characters.
pub(super) fn name(rng: &mut SeededRng) -> Name {
    match rng.below(100) {
        0..62 => chinese(rng),
        62..68 => Name {
            nickname: (*rng.pick(PHRASES)).to_owned(),
            ..chinese(rng)
        },
        68..88 => latin(rng),
        88..97 => decorated(rng),
        _ => Name {
            nickname: (*rng.pick(OTHERS)).to_owned(),
            latin: "guest".to_owned(),
        },
    }
}

fn chinese(rng: &mut SeededRng) -> Name {
    let (surname, sound) = rng.pick(SURNAMES);
    let mut name = Name {
        nickname: (*surname).to_owned(),
        latin: (*sound).to_owned(),
    };
    for _ in 0..if rng.percent(35) { 1 } else { 2 } {
        let (given, sound) = rng.pick(GIVEN);
        name.nickname.push_str(given);
        name.latin.push_str(sound);
    }
    name
}

fn latin(rng: &mut SeededRng) -> Name {
    let first = rng.pick(FIRST);
    let nickname = if rng.percent(50) {
        format!("{first} {}", rng.pick(LAST))
    } else {
        (*first).to_owned()
    };
    let latin = nickname
        .chars()
        .filter(char::is_ascii_alphabetic)
        .collect::<String>()
        .to_lowercase();
    Name { nickname, latin }
}

fn decorated(rng: &mut SeededRng) -> Name {
    let Name { nickname, latin } = if rng.percent(60) {
        chinese(rng)
    } else {
        latin(rng)
    };
    let emoji = rng.pick(EMOJI);
    let nickname = if rng.percent(70) {
        format!("{nickname}{emoji}")
    } else {
        format!("{emoji} {nickname}")
    };
    Name { nickname, latin }
}
