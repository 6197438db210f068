"""Invented names of people, places and organizations, made of syllables and assigned to splits by their hash.

A name that a split uses is used by no other split of any generated corpus with the same half of the names: the default
corpus has one half, every salted one the other. Nothing here knows what a document is.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from random import Random
from typing import Literal, NamedTuple

from m3dllm.files import sha256
from m3dllm.types import Lang

Gender = Literal["f", "m"]
GENDERS: tuple[Gender, ...] = ("f", "m")
SHARES = {"train": (0.0, 0.54), "dev": (0.54, 0.75), "test": (0.75, 1.0)}
"""The part of the names that each split may use."""


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is written as one string."""
    return tuple(text.split())


_EN_ONSETS = words(
    "Al And Ber Bri Cal Cor Dal Dor El Er Fen Gal Hal Hen Il Is Jor Kel Lar Lin Lor Mar Mel Ner Nor Ol Or Pel "
    "Per Ros Sab Sel Tam Tes Ul Val Vel Wil Yor Zel"
)
_EN_GIVEN: dict[Gender, tuple[str, ...]] = {
    "f": words("issa ethe ynne anthe orra ille isha enna ovia ette ura eya ind aline"),
    "m": words("ric den don mund vin bert gar nard ton win stan mar rick doc"),
}
_EN_SURNAMES = (
    words(
        "Har Tol Mad Wex Bran Cald Fenn Garr Hol Kest Lorr Mun Nerr Os Penn Quill Rad Sell Thorn Umm Verr Whit Yarr "
        "Bell Crom Dunn Ell Fall Gren Ink Jass Lamm Moss Nett Pell Rusk Stav Tuck Wend"
    ),
    words("wen brick ery mott kin saw dle ister ander low mere nock ridge stone tidge vane well worth bury dock"),
)
_EN_PLACES = (
    words("Vel Bran Os Kar Tar Mor Lin Sel Dun Wes Hol Fal Ard Ness Pol Ran Sun Tir Ull Gal Ber Cor Eld Fro Ish"),
    words("mora stead holm wick den mere haven combe tarn gate moor strand rook lund beck thorpe"),
)
_EN_STEMS = (
    words("Tam Bel Cor Dra Ester Flan Gor Hex Im Jol Kar Lum Mir Nob Ox Pra Rov Sil Tre Umb Vo Wal Yel Zan"),
    words("bury dell ford gram hurst lock mont nell pole quist rand sey ton vale wold"),
)

SYLLABLES = (
    *((_EN_ONSETS, endings) for endings in _EN_GIVEN.values()), _EN_SURNAMES, _EN_PLACES, _EN_STEMS,
)  # fmt: skip
"""What English names begin with, and what they end with."""

_ZH_SURNAMES = words(
    "沈 顾 陆 程 韩 苏 叶 潘 杜 戴 夏 钟 汪 田 任 姜 范 方 石 姚 谭 廖 邹 熊 金 郝 孔 白 崔 康 毛 邱 秦 江 史 侯 邵 "
    "孟 龙 万 段 雷 钱 汤 尹 黎 常 武 乔 贺 赖 龚 文 庞 樊 兰 殷 施 陶 洪 翟 安 颜 倪 严 牛 温 芦 季 俞 章 鲁 葛 "
    "伍 韦 申 尤 毕 聂 丛 焦 柳 邢 路 岳 齐 梅 莫 庄 辛 管 祝 左 涂 谷 祁 舒 耿 牟 卜 詹 关 苗 凌 费 纪 靳 盛 "
    "童 欧 甄 项 游 阳 裴 席 卫 查 屈 鲍 覃 霍 翁 隋 甘 景 薄 包 司 柏 宁 柯 阮 桂 闵 解 柴 华 车 "
    "冉 房 欧阳 上官 司徒 诸葛 慕容 夏侯 南宫 令狐 尉迟 长孙 宇文 司空"
)
_ZH_GIVEN: dict[Gender, tuple[str, str]] = {
    "f": ("若映晚采素蕴慧念清婉思静雨月芷书巧宛锦", "溪薇荷兰珠萍芸琴岚裳绮蓉筠瑶棠菱烟霜"),
    "m": ("知守怀景伯仲承立望远修克振廷学德云启敬", "安白川岩舟正山年松霖之礼峰渊诚野樵澜"),
}
_ZH_PLACES = ("青禾石柳枫桐鹤鹭云霞雁苇桑梨橘茶棠芦苔榆", "渡浦泉坪湾桥溪坞埠岭塘堰汀冈垭沱口墩")
_ZH_STEMS = ("恒瑞裕泰永昌嘉广同和协德信益宏兴启盈隆祥", "达源丰记成通盛生茂利康宁济顺元亨")


class People(NamedTuple):
    """What a person of one split can be called."""

    surnames: tuple[str, ...]
    given: dict[Gender, tuple[str, ...]]


class Names(NamedTuple):
    """The names of one split in one language. `stems` begin the names of organizations."""

    people: People
    places: tuple[str, ...]
    stems: tuple[str, ...]


def may_use(name: str, split: str, *, salted: bool) -> bool:
    """Whether the name belongs to the split. Raises KeyError for a split that is not in SHARES."""
    at = int(sha256(name.encode())[:12], 16) / 16**12 * 2
    low, high = SHARES[split]
    return low <= at - salted < high


@cache
def names_of(lang: Lang, split: str, *, salted: bool) -> Names:
    """All names that a split may use. Raises KeyError for a split that is not in SHARES."""

    def mine(*parts: tuple[str, ...] | str) -> tuple[str, ...]:
        made = dict.fromkeys("".join(pieces) for pieces in product(*parts))
        return tuple(name for name in made if may_use(name, split, salted=salted))

    if lang == "en":
        given = {gender: mine(_EN_ONSETS, _EN_GIVEN[gender]) for gender in GENDERS}
        return Names(People(mine(*_EN_SURNAMES), given), mine(*_EN_PLACES), mine(*_EN_STEMS))
    given = {gender: mine(*_ZH_GIVEN[gender]) for gender in GENDERS}
    return Names(People(mine(_ZH_SURNAMES), given), mine(*_ZH_PLACES), mine(*_ZH_STEMS))


def draw(rng: Random, pool: tuple[str, ...], taken: set[str]) -> str:
    """A name of the pool that is not taken yet; it is from now on."""
    while (name := rng.choice(pool)) in taken:
        pass
    taken.add(name)
    return name
