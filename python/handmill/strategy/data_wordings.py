"""The texts of what :func:`handmill.check_data` finds."""

from __future__ import annotations

from handmill.strategy.findings import Wording

_SPLIT = "handmill.strategy.split(x, y)"

DATA = {
    "values.nonfinite": Wording(
        "{value:.0f} values of {split} are NaN or infinite, first in row {row} at {place}",
        "{split} 中有 {value:.0f} 个值为 NaN 或无穷，最先在第 {row} 行的 {place}",
        "x = numpy.nan_to_num(x), or leave the rows out",
        "x = numpy.nan_to_num(x)，或删去这些行",
    ),
    "values.missing": Wording(
        "{value:.0f} texts of {place} in {split} are missing, first in row {row}",
        "{split} 的 {place} 中缺少 {value:.0f} 个文本，最先在第 {row} 行",
        "layers.StringLookup makes them a token of their own",
        "layers.StringLookup 会给它们一个单独的标记",
    ),
    "values.unscaled": Wording(
        "values of {place} reach {value:.4g}: a network learns best near [-1, 1]",
        "{place} 的值达到 {value:.4g}：网络在 [-1, 1] 附近学得最好",
        "{call}",
    ),
    "columns.constant": Wording(
        "{value:.0f} of {total} columns hold one value only ({names})",
        "{total} 列中有 {value:.0f} 列只有一个值（{names}）",
        "numpy.delete(x, {columns}, axis=1)",
    ),
    "columns.nearly_constant": Wording(
        "{value:.0f} of {total} columns hold one value in over 99.9 % of the rows ({names})",
        "{total} 列中有 {value:.0f} 列在 99.9 % 以上的行中是同一个值（{names}）",
        "check what their other values mean",
        "检查其余的值有何含义",
    ),
    "columns.codes": Wording(
        "{value:.0f} columns hold a few whole numbers ({names}): codes of categories have no order",
        "{value:.0f} 列只含少数几个整数（{names}）：类别编码没有大小顺序",
        "layers.CategoryEncoding for each, if they are codes",
        "若是编码，各用一层 layers.CategoryEncoding",
    ),
    "columns.ids": Wording(
        "{value:.0f} columns number the rows ({names}): a model learns the order of collection",
        "{value:.0f} 列是行的编号（{names}）：模型会记住采集的顺序",
        "numpy.delete(x, {columns}, axis=1)",
    ),
    "columns.scales": Wording(
        "deviations of columns are {value:.0f} times apart ({small} to {large})",
        "各列的标准差相差 {value:.0f} 倍（{small} 到 {large}）",
        "layers.Normalization(), adapted to the training rows",
        "layers.Normalization()，在训练行上 adapt",
    ),
    "shift.inputs": Wording(
        "{place} is distributed otherwise in {split} than in training: KS distance {value:.2f}, "
        "limit {limit:.2f} ({number} of {total} columns)",
        "{place} 在 {split} 中的分布与训练中不同：KS 距离 {value:.2f}，界限 {limit:.2f}"
        "（{total} 列中的 {number} 列）",
        _SPLIT,
    ),
    "shift.unseen": Wording(
        "{value:.1%} of the rows of {split} hold texts of {place} that training lacks ({names})",
        "{split} 中 {value:.1%} 的行含有训练中没有的 {place} 文本（{names}）",
        _SPLIT,
    ),
    "shift.labels": Wording(
        "classes are as frequent in {split} as in training with p {value:.1g} only: not one draw",
        "{split} 与训练的类别频率相同的概率只有 p {value:.1g}：不是同一次抽样",
        _SPLIT,
    ),
    "duplicates.within": Wording(
        "{value:.0f} rows of {split} repeat earlier ones ({rows})",
        "{split} 中有 {value:.0f} 行与前面的行相同（{rows}）",
        "numpy.unique(x, axis=0), or split(), which keeps them together",
        "numpy.unique(x, axis=0)，或用 split() 让它们留在一起",
    ),
    "duplicates.across": Wording(
        "{value:.0f} rows of {split} are rows of {other} ({rows}): the score is too good",
        "{split} 中有 {value:.0f} 行也在 {other} 中（{rows}）：得分偏高",
        _SPLIT,
    ),
    "duplicates.chance": Wording(
        "{value:.0f} rows of {split} equal rows of {other} ({rows}): columns hold so few values "
        "that chance makes {expected:.2g} or more",
        "{split} 中有 {value:.0f} 行与 {other} 的行相同（{rows}）：各列取值很少，"
        "偶然也会有 {expected:.2g} 行以上",
    ),
    "duplicates.conflict": Wording(
        "{value:.0f} rows of {split} are equal to others with another label ({rows})",
        "{split} 中有 {value:.0f} 行与标签不同的行完全相同（{rows}）",
        "handmill.strategy.label_issues(build, x, y)",
    ),
    "near.across": Wording(
        "{value:.1%} of {split}: {count} rows are nearly rows of {other} ({rows})",
        "{split} 的 {value:.1%}：{count} 行与 {other} 的行几乎相同（{rows}）",
        "look at the pairs in .rows; leave the first of each out",
        "查看 .rows 中的各对；去掉每对的前者",
    ),
    "near.within": Wording(
        "{value:.1%} of {split}: {count} rows are nearly equal to another ({rows})",
        "{split} 的 {value:.1%}：{count} 行与另一行几乎相同（{rows}）",
        "look at the pairs in .rows; give split() their groups",
        "查看 .rows 中的各对；把它们的分组交给 split()",
    ),
    "labels.missing": Wording(
        "{value:.0f} targets of {split} are missing, NaN or infinite, first in row {row}",
        "{split} 中有 {value:.0f} 个目标缺失、为 NaN 或无穷，最先在第 {row} 行",
        "leave these rows out",
        "删去这些行",
    ),
    "labels.constant": Wording(
        "all {value:.0f} targets of {split} are {name}: there is nothing to learn",
        "{split} 的 {value:.0f} 个目标全是 {name}：没有可学的东西",
        "collect rows of another class",
        "收集其他类别的行",
    ),
    "labels.absent": Wording(
        "{value:.0f} of {total} classes have no row in {split} ({names})",
        "{total} 个类别中有 {value:.0f} 个在 {split} 中没有行（{names}）",
        "handmill.strategy.split(x, y, stratify=True)",
    ),
    "labels.numbers": Wording(
        "classes are numbered {names}: sparse losses count from 0 without gaps",
        "类别编号为 {names}：稀疏损失要求从 0 连续编号",
        "classes, y = numpy.unique(y, return_inverse=True)",
    ),
    "labels.imbalance": Wording(
        "class {name} has {value:.1%} of the rows, {times:.0f} times less than an equal share",
        "类别 {name} 只占 {value:.1%} 的行，是均等份额的 1/{times:.0f}",
        "fit(..., class_weight={weights}); recall for each class",
        "fit(..., class_weight={weights})；看各类别的召回率",
    ),
    "labels.tiny": Wording(
        "{number} classes have fewer than {limit:.0f} rows in {split}, {name} only {value:.0f}: "
        "their recall cannot be told",
        "有 {number} 个类别在 {split} 中少于 {limit:.0f} 行，{name} 仅 {value:.0f} 行："
        "其召回率无法判断",
        "cross-validation, or more rows",
        "交叉验证，或收集更多的行",
    ),
    "labels.sorted": Wording(
        "classes lie one after the other ({value:.0f} changes): validation_split takes the last "
        "rows",
        "各类别依次排列（只变换 {value:.0f} 次）：validation_split 取的是最后的行",
        _SPLIT,
    ),
    "labels.split": Wording(
        "validation_split={fraction} takes the last {value:.0f} rows, whose classes are others "
        "(p {p:.1g}; {number} missing)",
        "validation_split={fraction} 取最后 {value:.0f} 行，其类别分布不同"
        "（p {p:.1g}；缺 {number} 类）",
        "x, y = x[order], y[order] with order = numpy.random.default_rng(0).permutation(len(y))",
    ),
    "rows.few": Wording(
        "{split} has {value:.0f} rows: differences below {step:.1%} cannot be told",
        "{split} 只有 {value:.0f} 行：小于 {step:.1%} 的差别无法判断",
        "cross-validation, or more rows",
        "交叉验证，或收集更多的行",
    ),
    "groups.shared": Wording(
        "{value:.0f} groups have rows in {other} and in {split} ({names}): the score is too good",
        "{value:.0f} 个组在 {other} 和 {split} 中都有行（{names}）：得分偏高",
        "handmill.strategy.split(x, y, groups=groups)",
    ),
    "time.order": Wording(
        "{value:.1%} of the rows of {other} are later than the first of {split}: the future leaks",
        "{other} 中 {value:.1%} 的行晚于 {split} 的第一行：未来的信息泄漏了",
        "handmill.strategy.split(x, y, time=time)",
    ),
}
"""Kind of finding -> its texts."""
