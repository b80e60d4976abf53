#!/usr/bin/env python3
"""Cost of proving a model with EZKL (Halo2, KZG): the peer of our prover's bench.

Runs EZKL's own pipeline on one ONNX file, each step in a process of its own, so that CPU time and
peak memory belong to that step alone. Needs: pip install ezkl==23.0.5 (Linux).

usage: peer_ezkl.py MODEL.onnx INPUT.json --out results.jsonl [--work DIR] [--limit SECONDS] [--srs-dir DIR] [--no-download]
INPUT.json is EZKL's data file: {"input_data": [[...flattened floats...]]}.

Settings: calibration target "resources", input private, output public, parameters fixed, the rest EZKL's defaults.
The structured reference string (SRS) is downloaded; where that fails, one is generated here with gen_srs, and the
result says so ("srs": "generated locally"). Such a string is as good for timing, but no proof under it is to be
trusted. Neither way of getting it is part of the prover's cost.

What the figures mean, for each step:
  cpu_s      user + system seconds of the process, all threads, from getrusage(RUSAGE_SELF)
  wall_s     seconds from start to end of the process, as its parent sees them
  call_cpu_s, call_wall_s     the same for the call into EZKL alone, without interpreter start and import
  peak_rss_bytes              ru_maxrss of the process
  load1                       load average of the last minute when the step began, the bench's own load included
"threads" is what EZKL's thread pool takes: RAYON_NUM_THREADS, or one for each core this process may use.
One JSON object is appended to --out, also for a run that failed or ran out of time; a table goes to stdout.
"""
import argparse
import datetime
import hashlib
import inspect
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time

STEPS = ["gen_settings", "calibrate_settings", "compile_circuit", "get_srs", "setup", "gen_witness", "prove", "verify"]


# ---- one step, in its own process -------------------------------------------------------------------------------

def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def call_step(ezkl, step, p):
    """Calls one EZKL function; `p` maps names of artefacts to paths. Some versions return a future, some a value."""
    if step == "gen_settings":
        args = ezkl.PyRunArgs()
        args.input_visibility, args.output_visibility, args.param_visibility = "private", "public", "fixed"
        result = ezkl.gen_settings(model=p["model"], output=p["settings"], py_run_args=args)
    elif step == "calibrate_settings":
        result = ezkl.calibrate_settings(data=p["data"], model=p["model"], settings=p["settings"], target="resources")
    elif step == "compile_circuit":
        result = ezkl.compile_circuit(model=p["model"], compiled_circuit=p["circuit"], settings_path=p["settings"])
    elif step == "get_srs":
        result = ezkl.get_srs(settings_path=p["settings"], srs_path=p["srs"])
    elif step == "gen_srs":
        result = ezkl.gen_srs(p["srs"], logrows(p["settings"]))
    elif step == "setup":
        result = ezkl.setup(model=p["circuit"], vk_path=p["vk"], pk_path=p["pk"], srs_path=p["srs"])
    elif step == "gen_witness":
        result = ezkl.gen_witness(data=p["data"], model=p["circuit"], output=p["witness"])
    elif step == "prove":
        result = ezkl.prove(witness=p["witness"], model=p["circuit"], pk_path=p["pk"], proof_path=p["proof"], srs_path=p["srs"])
    elif step == "verify":
        result = ezkl.verify(proof_path=p["proof"], settings_path=p["settings"], vk_path=p["vk"], srs_path=p["srs"])
    else:
        raise ValueError(f"unknown step {step}")
    return await result if inspect.isawaitable(result) else result


def run_step(step, paths, report):
    """The child: runs `step` and writes what it cost to the file `report`."""
    import asyncio
    import ezkl
    cpu, wall = cpu_seconds(), time.monotonic()
    result = asyncio.run(call_step(ezkl, step, paths))
    cost = {"cpu_s": cpu_seconds(), "call_cpu_s": cpu_seconds() - cpu, "call_wall_s": time.monotonic() - wall}
    cost = {name: round(value, 3) for name, value in cost.items()}
    cost["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # gen_srs returns nothing; every other step returns a true value when it succeeded.
    cost["ok"] = step == "gen_srs" or bool(result)
    cost["ezkl"] = ezkl.__version__
    with open(report, "w") as f:
        json.dump(cost, f)


# ---- the parent -------------------------------------------------------------------------------------------------

def measure(step, paths, work, deadline):
    """Runs `step` in a child process; returns its cost, or {"ok": False, "error": ...}."""
    report, log = os.path.join(work, step + ".cost.json"), os.path.join(work, step + ".log")
    command = [sys.executable, os.path.abspath(__file__), "--step", step, json.dumps(paths), report]
    load = round(os.getloadavg()[0], 2)
    began = time.monotonic()
    with open(log, "wb") as f:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
        try:
            code = child.wait(timeout=max(1, deadline - began))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            code = "by the time limit"
        except BaseException:
            child.kill()
            raise
    wall = round(time.monotonic() - began, 3)
    if code != 0:
        with open(log, errors="replace") as f:
            lines = f.read().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return {"ok": False, "error": f"exit {code}: {last[:400]}", "wall_s": wall, "load1": load}
    with open(report) as f:
        return {**json.load(f), "wall_s": wall, "load1": load}


def logrows(settings):
    with open(settings) as f:
        return json.load(f)["run_args"]["logrows"]


def cpu_model():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def settings_of(path):
    """The fields of EZKL's settings that decide the size of the circuit."""
    with open(path) as f:
        s = json.load(f)
    names = ["input_scale", "param_scale", "scale_rebase_multiplier", "lookup_range", "decomp_base", "decomp_legs",
             "num_inner_cols", "disable_freivalds", "input_visibility", "output_visibility", "param_visibility", "check_mode"]
    out = {name: s["run_args"].get(name) for name in names}
    return {**out, **{name: s.get(name) for name in ["num_rows", "total_assignments", "total_const_size"]}}


def sizes_of(paths):
    out = {name + "_bytes": os.path.getsize(paths[name]) for name in ["circuit", "srs", "pk", "vk", "witness"]
           if os.path.exists(paths[name])}
    if os.path.exists(paths["proof"]):
        out["proof_json_bytes"] = os.path.getsize(paths["proof"])
        with open(paths["proof"]) as f:
            proof = json.load(f)
        text = proof.get("hex_proof")
        out["proof_bytes"] = len(text.removeprefix("0x")) // 2 if text else len(proof["proof"])
    return out


def run_model(args, work):
    paths = {name: os.path.join(work, name) for name in ["settings", "circuit", "srs", "pk", "vk", "witness", "proof"]}
    paths.update(model=os.path.abspath(args.model), data=os.path.abspath(args.input))
    threads = int(os.environ.get("RAYON_NUM_THREADS") or len(os.sched_getaffinity(0)))
    result = {
        "model": os.path.basename(args.model), "model_sha256": sha256(args.model), "input_sha256": sha256(args.input),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "ezkl": None, "ok": True,
        "cpu": cpu_model(), "threads": threads, "nice": os.nice(0),
        "loadavg_at_start": [round(x, 2) for x in os.getloadavg()], "k": None, "srs": None, "steps": {},
    }
    deadline = time.monotonic() + args.limit

    def step(name):
        print(f"{result['model']}: {name} ...", file=sys.stderr, flush=True)
        cost = measure(name, paths, work, deadline)
        result["ezkl"] = cost.pop("ezkl", result["ezkl"])
        result["steps"][name] = cost
        return cost["ok"]

    def srs():
        """Takes a string kept earlier, else downloads one, else generates one; its file name says which it is."""
        folder = args.srs_dir or work
        for origin in ["downloaded", "generated locally"]:
            paths["srs"] = os.path.join(folder, f"kzg{result['k']}-{origin.split()[0]}.srs")
            result["srs"] = origin
            if args.srs_dir and os.path.exists(paths["srs"]):
                result["srs"] += " (kept from an earlier run)"
                return True
            if origin == "downloaded" and args.no_download:
                continue
            if step("get_srs" if origin == "downloaded" else "gen_srs"):
                return True
            if os.path.exists(paths["srs"]):  # what a broken attempt left
                os.remove(paths["srs"])
        return False

    for name in STEPS:
        if not (srs() if name == "get_srs" else step(name)):
            result["ok"] = False
            break
        if name == "calibrate_settings":
            result["k"] = logrows(paths["settings"])
            result["settings"] = settings_of(paths["settings"])
    result["sizes"] = sizes_of(paths)
    return result


def table(r):
    print(f"\n{r['model']}: ezkl {r['ezkl']}, k={r['k']}, SRS {r['srs']}, {r['cpu']}, {r['threads']} threads, "
          f"load {r['loadavg_at_start'][0]}, {r['date']}")
    print(f"{'step':<20}{'CPU s':>10}{'wall s':>10}{'peak MiB':>10}")
    for name, c in r["steps"].items():
        if "cpu_s" in c:
            mark = "" if c["ok"] else "  returned false"
            print(f"{name:<20}{c['cpu_s']:>10.2f}{c['wall_s']:>10.2f}{c['peak_rss_bytes'] / 2**20:>10.0f}{mark}")
        else:
            print(f"{name:<20}{'-':>10}{c['wall_s']:>10.2f}{'-':>10}  {c['error']}")
    print(", ".join(f"{name.removesuffix('_bytes')} {n:,} B" for name, n in r["sizes"].items()), flush=True)


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--step":
        return run_step(sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("--out", required=True, help="file of JSON lines that the result is appended to")
    parser.add_argument("--work", help="keep artefacts and logs here (default: a temporary folder, deleted at the end)")
    parser.add_argument("--limit", type=float, default=2700, help="seconds for the whole run (default 2700)")
    parser.add_argument("--srs-dir", help="keep reference strings here and use those that are there (kzgK.srs)")
    parser.add_argument("--no-download", action="store_true", help="generate the reference string without trying to download it")
    args = parser.parse_args()
    if args.srs_dir:
        os.makedirs(args.srs_dir, exist_ok=True)
    if args.work:
        os.makedirs(args.work, exist_ok=True)
    work = os.path.abspath(args.work) if args.work else tempfile.mkdtemp(prefix="peer-ezkl-")
    try:
        result = run_model(args, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    with open(args.out, "a") as f:
        f.write(json.dumps(result) + "\n")
    table(result)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
