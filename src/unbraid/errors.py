"""What can go wrong, named. Every message says what was received, what was expected and what to do next."""


class UnbraidError(Exception):
    """Base of every error that Unbraid raises on purpose."""


class FormatError(UnbraidError):
    """A file is not what it should be: the message names the file, the field, what was found and what was expected."""


class UnsupportedLayer(UnbraidError):
    """A model holds a layer (or a setting of one) that Unbraid cannot run exactly."""


class DataError(UnbraidError):
    """Examples or labels do not fit the network or the task."""


class ConfigError(UnbraidError):
    """A setting is outside its range, or two settings contradict each other."""


class IncompatibleModules(UnbraidError):
    """Modules that cannot take part in one composition."""
