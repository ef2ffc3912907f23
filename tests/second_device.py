"""A second device that needs no hardware: tensors that claim to be on a GPU, and refuse to mix with those that are not.

All values stay in the memory of the processor, so results must be equal bit for bit to those without it. As on a GPU,
an operation of tensors of both devices raises, except for numbers (tensors without axes) and for indices on the
processor; NumPy reads tensors of the processor only.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

SECOND = torch.device("cuda:0")
CPU = torch.device("cpu")
MARK = "_on_second_device"
INDEXING = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
FREE = {  # functions that may read both devices, or return no tensor
    torch._has_compatible_shallow_copy_type,
    torch.Tensor.__bool__,
    torch.Tensor.__format__,
    torch.Tensor.__len__,
    torch.Tensor.__repr__,
    torch.Tensor.copy_,
    torch.Tensor.data_ptr,
    torch.Tensor.dim,
    torch.Tensor.dtype.__get__,
    torch.Tensor.grad.__set__,
    torch.Tensor.is_leaf.__get__,
    torch.Tensor.item,
    torch.Tensor.requires_grad.__get__,
    torch.Tensor.shape.__get__,
    torch.Tensor.size,
    torch.Tensor.tolist,
    torch.Tensor.untyped_storage,
}
LIKE_FIRST = {torch.Tensor.grad.__get__, torch.Tensor.__deepcopy__}  # the result is where the first argument is
# lengths and batch sizes of packed sequences stay on the processor
PACKING = {torch._VF._pack_padded_sequence, torch._VF._pad_packed_sequence}
RECURRENT = {torch._VF.lstm, torch._VF.gru, torch._VF.rnn_tanh, torch._VF.rnn_relu}
NUMPY = {torch.Tensor.numpy, torch.Tensor.__array__}


def on_second(tensor):
    """Whether a tensor is on the second device."""
    return isinstance(tensor, torch.Tensor) and getattr(tensor, MARK, False)


def _device(value):
    """The device that an argument names; None for another argument."""
    if isinstance(value, torch.device):
        return value
    return torch.device(value) if isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu", "meta") else None


def _marked(result, second):
    def mark(leaf):
        if isinstance(leaf, torch.Tensor):
            if second and leaf.device.type != "meta":
                setattr(leaf, MARK, True)
            elif getattr(leaf, MARK, False):
                setattr(leaf, MARK, False)
        return leaf

    return tree_map(mark, result)


class SecondDevice(TorchFunctionMode):
    """While it is active, ``.to("cuda")`` moves tensors and modules to the second device."""

    def __enter__(self):
        self.make = torch.nn.Parameter.__new__

        def make(cls, data=None, requires_grad=True):
            made = self.make(cls, data, requires_grad)
            return _marked(made, True) if on_second(data) else made

        torch.nn.Parameter.__new__ = make
        self.acceptable, torch.backends.cudnn.is_acceptable = torch.backends.cudnn.is_acceptable, lambda tensor: False
        return super().__enter__()

    def __exit__(self, *error):
        torch.nn.Parameter.__new__, torch.backends.cudnn.is_acceptable = self.make, self.acceptable
        return super().__exit__(*error)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function == torch.Tensor.device.__get__:
            return SECOND if on_second(args[0]) else function(*args)
        if function == torch.Tensor.is_cuda.__get__:
            return on_second(args[0])
        if function == torch.Tensor.is_cpu.__get__:
            return not on_second(args[0]) and function(*args)
        if function == torch.Tensor.data.__set__:
            function(*args)
            setattr(args[0], MARK, on_second(args[1]))
            return None
        if function in (torch.Tensor.cpu, torch.Tensor.cuda):
            return self._moved(args[0], function is torch.Tensor.cuda)
        if function is torch.Tensor.to:
            return self._to(args, kwargs)
        wanted = _device(kwargs.get("device"))
        if wanted is not None and wanted.type == "cuda":
            kwargs["device"] = CPU
            return _marked(function(*args, **kwargs), True)
        leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        if wanted is not None and function in (torch.as_tensor, torch.tensor):
            return _marked(function(*args, **kwargs), False)
        if function in NUMPY:
            if on_second(args[0]):
                raise TypeError("can't convert a tensor of the second device to numpy: use .cpu() first")
            return function(*args, **kwargs)
        if function in FREE:
            return function(*args, **kwargs)
        if function in LIKE_FIRST:
            return _marked(function(*args, **kwargs), on_second(args[0]))
        if function in PACKING:
            values, sizes = function(*args, **kwargs)
            return _marked(values, on_second(args[0])), sizes
        second = any(on_second(leaf) for leaf in leaves)
        if second:
            self._check(function, args, leaves)
        result = function(*args, **kwargs)
        if wanted is not None:  # a factory like zeros_like(x, device="cpu")
            return _marked(result, False)
        return _marked(result, True) if second else result

    def _check(self, function, args, leaves):
        if function in INDEXING and on_second(args[0]):
            leaves = [args[0], *[value for value in args[2:] if isinstance(value, torch.Tensor)]]
        if function in RECURRENT and isinstance(args[1], torch.Tensor) and args[1].dtype == torch.int64:
            leaves = [leaf for leaf in leaves if leaf is not args[1]]
        strange = [leaf for leaf in leaves if not on_second(leaf) and leaf.dim() > 0]
        if strange:
            name, shape = getattr(function, "__name__", function), tuple(strange[0].shape)
            raise RuntimeError(f"{name}: expected all tensors on one device, found {shape} on the cpu")

    def _moved(self, tensor, second):
        if on_second(tensor) == second:
            return tensor
        with torch._C.DisableTorchFunction():
            moved = tensor.clone()
        return _marked(moved, second)

    def _to(self, args, kwargs):
        tensor, rest = args[0], list(args[1:])
        place = kwargs.pop("device", None)
        for position, value in enumerate(rest):
            if isinstance(value, torch.Tensor):
                place, kwargs["dtype"] = (SECOND if on_second(value) else CPU), value.dtype
                del rest[position]
                break
            if _device(value) is not None:
                place = value
                del rest[position]
                break
        place = _device(place)
        second = on_second(tensor) if place is None else place.type == "cuda"
        kwargs.pop("non_blocking", None)
        if place is not None and place.type == "meta":
            return torch.Tensor.to(tensor, "meta", *[v for v in rest if not isinstance(v, bool)], **kwargs)
        rest = [value for value in rest if not isinstance(value, bool)]
        changed = tensor if not rest and not kwargs else torch.Tensor.to(tensor, *rest, **kwargs)
        if changed is not tensor:
            _marked(changed, on_second(tensor))
        return self._moved(changed, second)
