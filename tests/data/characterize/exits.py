import sys

sys.exit("needs a terminal")
