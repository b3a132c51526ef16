"""ResNet of basic blocks (18 and 34 layers, or any other number), as the encoder of a segmentation network.

::

    image ─ 7×7 ÷2 ─┬─ pool ÷2 ─ layer1 ─┬─ layer2 ÷2 ─┬─ layer3 ÷2 ─┬─ layer4 ÷2 ─┐
                    w, 1/2               w, 1/4        2w, 1/8       4w, 1/16      8w, 1/32      features

The names of the parameters are those of torchvision, so that a file of pretrained weights fits.

References
----------
He et al. 2016, Table 1 and Figure 5, left. ResNet-34 has a width of 64 and 3, 4, 6 and 3 blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """conv3×3–BN–ReLU–conv3×3–BN plus the input (projected by 1×1 and BN where its shape changes), then ReLU."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample: nn.Module = nn.Identity()
        if n_in != n_out or stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y / stride, x / stride)``."""
        body = nn.functional.relu(self.bn1(self.conv1(features)))
        return nn.functional.relu(self.bn2(self.conv2(body)) + self.downsample(features))


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Parameters
    ----------
    n_channels
        Input channels.
    width
        Channels of the first features and of layer1; they double with each further layer.
    blocks
        Blocks in each layer. Fewer than four layers make a shallower encoder.
    """

    def __init__(self, n_channels: int, width: int = 64, blocks: tuple[int, ...] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer_names = [f"layer{number}" for number in range(1, len(blocks) + 1)]
        self.widths = [width, *(width * 2**level for level in range(len(blocks)))]
        """Channels of the features that `forward` returns."""
        for level, (name, n_blocks) in enumerate(zip(self.layer_names, blocks, strict=True)):
            n_in, n_out = self.widths[level : level + 2]
            first = BasicBlock(n_in, n_out, 1 if level == 0 else 2)
            self.add_module(name, nn.Sequential(first, *(BasicBlock(n_out, n_out) for _ in range(n_blocks - 1))))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features of an image ``(n, n_channels, y, x)``, from a half of its resolution downwards."""
        features = nn.functional.relu(self.bn1(self.conv1(image)))
        found = [features]
        features = nn.functional.max_pool2d(features, 3, 2, 1)
        for name in self.layer_names:
            features = self.get_submodule(name)(features)
            found.append(features)
        return found

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Take pretrained weights.

        Parameters
        ----------
        tensors
            A state dict with torchvision's names. The classifier (``fc``) and layers deeper than this encoder are
            left out. Whatever channels ``conv1`` has, they are summed, and divided evenly over the channels here: an
            image that is the same in all of them gives what a grey image gave.

        Raises
        ------
        ValueError
            If tensors are missing, of another shape, or unknown: another ResNet. Nothing is changed then.
        """
        own = self.state_dict()
        deeper = tuple(f"layer{number}." for number in range(len(self.layer_names) + 1, 5))
        given = {key: value for key, value in tensors.items() if not key.startswith(("fc.", *deeper))}
        stem = given.get("conv1.weight")
        if stem is not None and stem.ndim == 4:
            n_channels = self.conv1.in_channels
            given["conv1.weight"] = stem.sum(1, keepdim=True).expand(-1, n_channels, -1, -1) / n_channels
        # Old files do not have the number of batches, which nothing depends on.
        missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
        misshapen = [key for key in own if key in given and given[key].shape != own[key].shape]
        unknown = [key for key in given if key not in own]
        for what, keys in (("missing", missing), ("of another shape", misshapen), ("unknown", unknown)):
            if keys:
                raise ValueError(
                    f"expected the weights of a ResNet of {self._blocks()} basic blocks and width {self.widths[0]}; "
                    f"{len(keys)} tensors are {what}: {', '.join(keys[:3])}"
                )
        self.load_state_dict({**own, **given})

    def _blocks(self) -> str:
        return ", ".join(str(len(list(self.get_submodule(name).children()))) for name in self.layer_names)
