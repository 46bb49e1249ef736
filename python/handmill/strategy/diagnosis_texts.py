"""What findings of ``diagnose`` say, in English and Chinese."""

from __future__ import annotations

from handmill.strategy.findings import Wording

_TABLES = "handmill.check_data(x, y, validation_data=...)"

TEXTS = {
    "copy.none": Wording(
        "the model cannot be made anew from its configuration ({reason}), so nothing was trained",
        "无法由配置重建模型（{reason}），因此没有训练任何副本",
        "give the class get_config(), or make the model with Sequential or Model(inputs, outputs)",
        "为该类实现 get_config()，或用 Sequential、Model(inputs, outputs) 建模",
    ),
    "not.trained": Wording(
        "the model has not been trained: only its first state, its data and copies were looked at",
        "模型尚未训练：只检查了初始状态、数据和副本",
        "model.fit(...) first",
        "先 model.fit(...)",
    ),
    "validation.none": Wording(
        "no validation data: over- and underfitting cannot be told",
        "没有验证数据：无法判断过拟合或欠拟合",
        "diagnose(model, x, y, validation_data=(x_val, y_val))",
    ),
    "validation.few": Wording(
        "{value:.0f} validation rows are fewer than {limit:.0f}: cannot tell over- from "
        "underfitting, an error rate is known to +-{error:.0%} only",
        "验证集只有 {value:.0f} 行，少于 {limit:.0f} 行：无法区分过拟合与欠拟合，"
        "错误率只能精确到 +-{error:.0%}",
        "hold out more rows, or use cross-validation",
        "留出更多的行，或使用交叉验证",
    ),
    "budget": Wording(
        "a training of {epochs} epochs takes about {value:.3g} s: {what}",
        "训练 {epochs} 轮约需 {value:.3g} 秒：{what_zh}",
        "diagnose(..., budget={more:.0f})",
    ),
    "fit.gap": Wording(
        "the loss is {value:.3g} [{low:.3g}, {high:.3g}] higher on validation rows than on as many "
        "training rows ({train:.3g}); a gap alone is normal",
        "验证行的损失比同样多的训练行（{train:.3g}）高 {value:.3g} [{low:.3g}, {high:.3g}]；"
        "仅有差距属正常现象",
    ),
    "overfits": Wording(
        "overfits: trained {count_of_seeds} times, validation loss is lowest after epoch {best} of "
        "{epochs} and {value:.0%} [{low:.0%}, {high:.0%}] higher at the end",
        "过拟合：训练 {count_of_seeds} 次，验证损失在第 {best} 轮（共 {epochs} 轮）后最低，"
        "结束时高出 {value:.0%} [{low:.0%}, {high:.0%}]",
        "callbacks.EarlyStopping('val_loss', patience=3, restore_best_weights=True), "
        "or more data, dropout, L2: diagnose(..., experiments=True) tries them",
        "callbacks.EarlyStopping('val_loss', patience=3, restore_best_weights=True)，"
        "或更多数据、dropout、L2：diagnose(..., experiments=True) 会逐一尝试",
    ),
    "base.constant": Wording(
        "validation error {value:.3g} [{low:.3g}, {high:.3g}]; always giving the same answer has "
        "{limit:.3g}{verdict}",
        "验证误差 {value:.3g} [{low:.3g}, {high:.3g}]；总给同一答案为 {limit:.3g}{verdict_zh}",
        "{call}",
    ),
    "base.linear": Wording(
        "validation error {value:.3g}, but a linear model has {limit:.3g} (p = {p:.1g}): "
        "underfits or is badly tuned",
        "验证误差 {value:.3g}，而线性模型为 {limit:.3g}（p = {p:.1g}）：欠拟合或调参不当",
        "handmill.strategy.lr_range_test(model, x, y)",
    ),
    "base.knn": Wording(
        "validation error {value:.3g}, but nearest neighbours ({name}) have {limit:.3g} "
        "(p = {p:.1g}): underfits or is badly tuned",
        "验证误差 {value:.3g}，而最近邻（{name}）为 {limit:.3g}（p = {p:.1g}）：欠拟合或调参不当",
        "handmill.strategy.lr_range_test(model, x, y)",
    ),
    "base.blind": Wording(
        "trained on zeros in place of x, the validation error is {value:.3g}, below that of the "
        "constant ({limit:.3g}): something besides x tells the labels",
        "用零代替 x 训练后验证误差为 {value:.3g}，低于常数预测（{limit:.3g}）："
        "x 之外的信息泄露了标签",
        _TABLES,
    ),
    "shuffle.labels": Wording(
        "labels do not belong to inputs: neither the model nor simple methods beat the constant, "
        "and trained on the labels in random order copies do as well (p = {value:.2g})",
        "标签与输入不对应：模型与简单方法都不优于常数预测，"
        "打乱标签后训练的副本也同样好（p = {value:.2g}）",
        "give x and y one order: order = rng.permutation(len(x)); x, y = x[order], y[order]",
        "用同一顺序打乱 x 和 y：order = rng.permutation(len(x)); x, y = x[order], y[order]",
    ),
    "shuffle.weak": Wording(
        "labels hardly depend on inputs: neither the model nor simple methods save a tenth of the "
        "error of the constant, though copies do better than on labels in random order "
        "(p = {value:.2g})",
        "标签几乎不依赖于输入：模型与简单方法都未能把常数预测的误差减少十分之一，"
        "尽管副本优于打乱标签后的训练（p = {value:.2g}）",
        "look whether x and y lie in the same order, and for better inputs",
        "检查 x 与 y 的顺序是否一致，并寻找更有用的输入",
    ),
    "one.class": Wording(
        "{value:.0%} of predictions are class {label}, which {share:.0%} of the rows are",
        "{value:.0%} 的预测为类别 {label}，而它只占 {share:.0%} 的行",
        "fit(..., class_weight=...), a smaller learning rate, or look at the labels",
        "fit(..., class_weight=...)，减小学习率，或检查标签",
    ),
    "units.dead": Wording(
        "layer {layer!r}: {value:.0%} of {units} ReLU units gave 0 for each of {rows_used} rows",
        "层 {layer!r}：{units} 个 ReLU 单元中有 {value:.0%} 对全部 {rows_used} 行输出 0",
        "scale x, a smaller learning rate, or activation='leaky_relu'",
        "缩放 x，减小学习率，或 activation='leaky_relu'",
    ),
    "units.saturated": Wording(
        "layer {layer!r}: {value:.0%} of outputs are at the ends of the activation, where the "
        "gradient vanishes",
        "层 {layer!r}：{value:.0%} 的输出处于激活函数两端，梯度几乎为零",
        "scale x, initializers.GlorotUniform(), or layers.BatchNormalization() before it",
        "缩放 x，initializers.GlorotUniform()，或在其前加 layers.BatchNormalization()",
    ),
    "gradient.vanishes": Wording(
        "the gradient of the outputs of {first!r} is {value:.1g} of that of {last!r}: it vanishes "
        "on the way",
        "{first!r} 输出的梯度只有 {last!r} 的 {value:.1g}：梯度消失",
        "residual connections, layers.BatchNormalization(), or initializers.HeNormal()",
        "残差连接、layers.BatchNormalization() 或 initializers.HeNormal()",
    ),
    "gradient.explodes": Wording(
        "the gradient of the outputs of {first!r} is {value:.1g} times that of {last!r}",
        "{first!r} 输出的梯度是 {last!r} 的 {value:.1g} 倍：梯度爆炸",
        "optimizers.Adam(clipnorm=1.0), smaller initial weights, or normalization",
        "optimizers.Adam(clipnorm=1.0)、更小的初始权重或归一化",
    ),
    "update.large": Wording(
        "a step changes kernel of {layer!r} by {value:.1g} of its norm; above {limit:.0e} training "
        "is a random walk",
        "每步使 {layer!r} 的权重变化其范数的 {value:.1g}；超过 {limit:.0e} 时训练近似随机游走",
        "a learning rate 10 times smaller",
        "学习率减小到十分之一",
    ),
    "update.small": Wording(
        "a step changes kernel of {layer!r} by {value:.1g} of its norm only",
        "每步只使 {layer!r} 的权重变化其范数的 {value:.1g}",
        "a learning rate 10 times larger",
        "学习率增大到十倍",
    ),
    "loss.nan": Wording(
        "the training loss was not finite in epoch {value:.0f}",
        "第 {value:.0f} 轮的训练损失不是有限数",
        "callbacks.TerminateOnNaN() and a smaller learning rate",
        "callbacks.TerminateOnNaN() 并减小学习率",
    ),
    "loss.spikes": Wording(
        "the training loss rose in {value:.0f} of {epochs} epochs by more than {limit:.0%} above "
        "what it had been",
        "{epochs} 轮中有 {value:.0f} 轮的训练损失比此前最低值高出 {limit:.0%} 以上",
        "a smaller learning rate, or optimizers.Adam(clipnorm=1.0)",
        "减小学习率，或 optimizers.Adam(clipnorm=1.0)",
    ),
    "loss.plateau": Wording(
        "the training loss fell by {value:.2%} only in the last fifth of {epochs} epochs",
        "{epochs} 轮的最后五分之一中训练损失仅下降 {value:.2%}",
        "optimizers.schedules.CosineDecay(rate, steps), or fewer epochs",
        "optimizers.schedules.CosineDecay(rate, steps)，或减少轮数",
    ),
    "labels.noise": Wording(
        "{value:.1%} [{low:.1%}, {high:.1%}] of training labels ({count} rows: {rows}) are other "
        "than what their neighbours and models that have not seen them agree on: wrong labels, or "
        "classes that overlap",
        "{value:.1%} [{low:.1%}, {high:.1%}] 的训练标签（{count} 行：{rows}）"
        "与近邻及未见过它们的模型的一致判断不同：标签有误或类别重叠",
        "handmill.strategy.label_issues(y, build=build, x=x)",
    ),
    "wiring.batch": Wording(
        "the output of a row changes with other rows of the batch: rows are mixed, as by a reshape "
        "in place of a transpose",
        "某行的输出随批中其他行变化：行与行被混在一起，例如用 reshape 代替了 transpose",
        "ops.transpose(x, axes) where axes change places",
    ),
    "init.loss": Wording(
        "before training the loss is {value:.3g}, {where} guessing ({limit:.3g})",
        "训练前损失为 {value:.3g}，{where_zh}猜测（{limit:.3g}）",
        "{call}",
        "{call_zh}",
    ),
    "init.prior": Wording(
        "classes are not equally frequent: last biases of log frequencies save {value:.2g} of the "
        "first loss",
        "类别频率不均：把最后一层偏置设为频率的对数可使初始损失降低 {value:.2g}",
        "bias_initializer=handmill.initializers.Constant(np.log(frequencies))",
    ),
    "overfit.batch": Wording(
        "{rows_used} rows alone are {verdict}: loss {value:.3g} of {first:.3g}, {right} right "
        "after {steps} steps",
        "仅 {rows_used} 行{verdict_zh}：{steps} 步后损失 {value:.3g}（初始 {first:.3g}），"
        "{right} 行正确",
        "{call}",
        "{call_zh}",
    ),
    "steps.more": Wording(
        "{factor} times as many epochs lower the validation error by {value:.3g} "
        "[{low:.3g}, {high:.3g}] ({seeds} seeds, from {limit:.3g})",
        "训练轮数增至 {factor} 倍使验证误差降低 {value:.3g} [{low:.3g}, {high:.3g}]"
        "（{seeds} 个种子，原为 {limit:.3g}）",
        "model.fit(..., epochs={epochs})",
    ),
    "capacity.up": Wording(
        "twice the units lower the validation error by {value:.3g} [{low:.3g}, {high:.3g}] "
        "({seeds} seeds, from {limit:.3g})",
        "单元数加倍使验证误差降低 {value:.3g} [{low:.3g}, {high:.3g}]"
        "（{seeds} 个种子，原为 {limit:.3g}）",
        "more units in hidden layers",
        "增加隐藏层的单元数",
    ),
    "rate.high": Wording(
        "a tenth of the learning rate lowers the validation error by {value:.3g} "
        "[{low:.3g}, {high:.3g}] ({seeds} seeds, from {limit:.3g})",
        "学习率降至十分之一使验证误差降低 {value:.3g} [{low:.3g}, {high:.3g}]"
        "（{seeds} 个种子，原为 {limit:.3g}）",
        "handmill.strategy.lr_range_test(model, x, y)",
    ),
    "rate.low": Wording(
        "ten times the learning rate lowers the validation error by {value:.3g} "
        "[{low:.3g}, {high:.3g}] ({seeds} seeds, from {limit:.3g})",
        "学习率增至十倍使验证误差降低 {value:.3g} [{low:.3g}, {high:.3g}]"
        "（{seeds} 个种子，原为 {limit:.3g}）",
        "handmill.strategy.lr_range_test(model, x, y)",
    ),
    "remedy": Wording(
        "{what}: validation loss {base:.4g} -> {after:.4g}, gain {value:.3g} "
        "[{low:.3g}, {high:.3g}]{mark}",
        "{what_zh}：验证损失 {base:.4g} -> {after:.4g}，"
        "改善 {value:.3g} [{low:.3g}, {high:.3g}]{mark_zh}",
        "{call}",
    ),
}
