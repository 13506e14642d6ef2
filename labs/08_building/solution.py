"""Lab 08, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

Each function stands in for the one of the same name in minidock/build/steps.py. Your tools:

    hashlib.sha256(bytes).hexdigest()           64 hexadecimal digits
    os.listdir(path)                            the names in a directory
    CommandFailed("…", exit_code=3)             the error for a command that failed
"""

import hashlib
import os

from minidock.build.problems import CommandFailed


def cache_key(parent, instruction, content, unseen):
    """Task 1. The name under which the cache keeps one step: 64 hexadecimal digits.

    parent: the id of the image before the step. instruction: its text. content: a digest of the files
    that it copies, "" for none. unseen: what counts, too, and is in no history (mounts). All are strings,
    and none holds a NUL ("\\0").

    The same four give the same key, in every process and on every day. Other ones give another key.
    """
    question = "\0".join([parent, instruction, content, unseen])
    return hashlib.sha256(question.encode()).hexdigest()


def committed(config, settings, entry, diff_id):
    """Task 2. The config document of the next image, as a new dictionary.

    config: that of the image before: "created", "config", "rootfs", "history", and more. It must stay as
        it is, with all that is in it: other images are made from it, too.
    settings: the new "config" (Env, Cmd, …).
    entry: the new last line of "history". Its "created" is also the document's.
    diff_id: the new top layer, the last one in ["rootfs"]["diff_ids"]. None: no file has changed; then
        the new line of the history also says "empty_layer": True.
    """
    diff_ids = list(config["rootfs"]["diff_ids"])
    history = list(config["history"])
    if diff_id is None:
        history.append({**entry, "empty_layer": True})
    else:
        diff_ids.append(diff_id)
        history.append(entry)
    return {
        **config,
        "created": entry["created"],
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    }


def run_and_commit(command, run, upper, commit):
    """Task 3. Run a container to its end; what it changed becomes a layer.

    command: the words that it executes, for your message.
    run: a function. run() runs the container and returns its exit code.
    upper: the directory where its changes are afterwards.
    commit: a function. commit(upper) makes a layer of the directory and returns it.

    Returns the layer, or None when nothing was changed: then there is no layer to make.
    Raises CommandFailed, with the exit code, when it is not 0. Then nothing is committed.
    """
    code = run()
    if code != 0:
        raise CommandFailed(f"{' '.join(command)}: exit code {code}", exit_code=code)
    if not os.listdir(upper):
        return None
    return commit(upper)


def build_loop(state, instructions, plan, find, make):
    """Task 4. Carry out instructions, one after the other; returns the last state.

    state: what the image is at the beginning. Three functions know the details:
    plan(state, instruction)   what this instruction means on this state: the planned step
    find(state, planned)       asks the cache: the next state, or None when it does not know the step
    make(state, planned)       carries it out, and returns the next state

    After the first step that is not known, do not ask the cache again: all that follows is new.
    """
    all_known = True
    for instruction in instructions:
        planned = plan(state, instruction)
        found = find(state, planned) if all_known else None
        if found is None:
            all_known = False
            found = make(state, planned)
        state = found
    return state
