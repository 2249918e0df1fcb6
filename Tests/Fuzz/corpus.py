"""The saved corpus: one input a line in hexadecimal, a file for each check.

corpus.py expand FILE DIRECTORY    writes each line's bytes to a file of its own
corpus.py collect FILE DIRECTORY   the reverse, shortest first"""

import hashlib
import os
import sys

command, saved, directory = sys.argv[1:4]
if command == "expand":
    os.makedirs(directory, exist_ok=True)
    with open(saved) as lines:
        for line in lines:
            data = bytes.fromhex(line.strip())
            with open(os.path.join(directory, hashlib.sha1(data).hexdigest()), "wb") as file:
                file.write(data)
else:
    inputs = set()
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            inputs.add(file.read())
    ordered = sorted((data for data in inputs if data), key=lambda data: (len(data), data))
    with open(saved, "w") as file:
        file.writelines(data.hex() + "\n" for data in ordered)
