-- What Redis gives its scripts. KEYS is not among it: all scripts make their keys from their arguments.
std = "lua51"
read_globals = {"redis", "cjson", "ARGV"}
max_line_length = 120
