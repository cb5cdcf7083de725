#!/usr/bin/env bash
# TensorFlow 2.21.0: inter-op parallelism of -1, "in the caller's thread", holds for a Session and not for a tf.function.
#
# Run: bash findings/functions_leave_the_callers_thread.sh     (Python 3.11 or newer, a package index; minutes)
#
# Input: set_inter_op_parallelism_threads(-1), then a function of one op that notes the thread it runs in, as a tf.function, within
# its tf.range loop, and in a Session whose ConfigProto has the same -1.
#
# Expected: the caller's thread everywhere. config.proto says of inter_op_parallelism_threads that a negative number means that all
# operations are performed in the caller's thread; the setter accepts -1, and the getter returns it.
# Observed: the Session obeys. The tf.function runs in a thread of TensorFlow's, as with 1.
#
# Relevance: a hospital's process trains a few hundred patients in less than a millisecond, several of them share a core, and each
# call of a traced function wakes a second thread and waits for it. No setting avoids that, so fedhealth/models/training.py puts
# evaluation and training into one call.
#
# Exit status: 0 if observed as described, 1 if not, 2 if TensorFlow could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet tensorflow==2.21.0
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install tensorflow 2.21.0"; exit 2; }

cat >"$folder/threads.py" <<'PYTHON'
import os
import sys
import threading

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

tf.config.threading.set_inter_op_parallelism_threads(-1)
seen = []


def note(value):
    seen.append(threading.get_ident())
    return value


def step(value):
    return tf.ensure_shape(tf.numpy_function(note, [value], tf.float32), ())


@tf.function
def once(value):
    return step(value)


@tf.function
def loop(value):
    for _ in tf.range(3):
        value = step(value)
    return value


def in_session():
    graph = tf.Graph()
    with graph.as_default():
        result = step(tf.constant(1.0))
    with tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)) as session:
        session.run(result)


def is_caller(run):
    seen.clear()
    run()
    return {thread == threading.get_ident() for thread in seen}


found = [is_caller(lambda: once(tf.constant(1.0))), is_caller(lambda: loop(tf.constant(1.0))), is_caller(in_session)]
print(f"tensorflow {tf.__version__}, get_inter_op_parallelism_threads() is", tf.config.threading.get_inter_op_parallelism_threads())
print("expected: in the caller's thread: function True, its loop True, Session True")
print("observed: in the caller's thread: function {}, its loop {}, Session {}".format(*(each == {True} for each in found)))
sys.exit(0 if found == [{False}, {False}, {True}] else 1)
PYTHON

code=0
"$folder/venv/bin/python" "$folder/threads.py" 2>"$folder/err.log" || code=1
[ "$code" = 0 ] && echo "as described" || { tail -3 "$folder/err.log"; echo "changed: not as described"; }
exit "$code"
