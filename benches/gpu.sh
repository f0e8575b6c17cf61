#!/usr/bin/env bash
# What a GPU does with this project: `doctor --deep`, images per second of a training step and of each method, how busy
# the GPU is and what memory it takes, the views that the CPU prepares, and PyTorch on the same GPU where it is there.
# No network, no compiler: the programs may come from another machine.
#
#     cargo build --release --features wgpu --bin ssl-backdoor --example step_speed --example data_speed
#     benches/gpu.sh target/release OUT [DEVICE]          # DEVICE: wgpu:0 unless it is said
#
# OUT/gpu.md is the table, OUT/doctor.txt what the doctor says. Everything ends after LIMIT seconds (580): what takes longer
# than DOCTOR (180, the doctor) or ROW seconds (120) is cut off, and rows that cannot begin are left out and named.
#
# The first training on a GPU tries the kernels of every shape, which takes minutes (docs/gpu-and-clusters.md); what it finds is kept on
# disk. Where the GPU has never run the project, run this twice, or raise the three limits.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,13p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
programs=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
device=${3:-wgpu:0}
limit=${LIMIT:-580}
threads=$(nproc)
SECONDS=0

step_speed=$programs/step_speed data_speed=$programs/data_speed
[ -x "$step_speed" ] || step_speed=$programs/examples/step_speed
[ -x "$data_speed" ] || data_speed=$programs/examples/data_speed

# A figure of a line of JSON.
figure() { grep -o "\"$1\": *[0-9.]*" | head -1 | grep -o '[0-9.]*$'; }
# The product of a figure, if there is one, and a number.
product() { awk -v a="$1" -v b="$2" 'BEGIN { if (a == "") printf "-"; else printf "%.0f", a * b }'; }
# Mean use of the GPU in percent while it computes, and the most memory it held in MB, of what nvidia-smi wrote.
busy() { awk -F', ' '$1 > 0 { sum += $1; n++ } $2 > most { most = $2 } END { if (n) printf "%.0f | %d", sum / n, most; else printf "- | -" }' "$1"; }

# within MOST COMMAND: runs the command for at most MOST seconds and not beyond the limit.
within() { timeout "$(($1 < limit - SECONDS ? $1 : limit - SECONDS))" "${@:2}"; }

# row NAME ARGUMENTS: measures one row.
row() {
    local name=$1
    shift
    # A start alone takes some seconds.
    if [ $SECONDS -gt $((limit - 10)) ]; then left+=("$name"); return; fi
    local smi= line rate start=$SECONDS
    if command -v nvidia-smi > /dev/null; then
        nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits -lms 100 > "$out/smi" 2> /dev/null &
        smi=$!
    fi
    line=$(within "${ROW:-120}" "$step_speed" --device "$device" --threads "$threads" --workers "$threads" "$@" 2> "$out/error" | tail -1)
    rate=$(figure images_per_s <<< "$line")
    [ -z "$smi" ] || { kill "$smi"; wait "$smi"; } 2> /dev/null
    rates[$name]=$rate
    [ -n "$rate" ] || rate="none after $((SECONDS - start)) s: $(tail -1 "$out/error" | cut -c1-120)"
    echo "| $name | $rate | $(busy "$out/smi") | $((SECONDS - start)) |" | tee -a "$out/gpu.md"
}

left=()
declare -A rates
within "${DOCTOR:-180}" "$programs/ssl-backdoor" doctor --deep --device "$device" 2>&1 | tee "$out/doctor.txt"
[ "${PIPESTATUS[0]}" != 124 ] || echo "cut off after $SECONDS s" | tee -a "$out/doctor.txt"
echo "doctor: $SECONDS s"

{
    command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    echo "$threads CPU cores: $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2)"
    echo
    echo "| on $device | images per second | busy, % | memory, MB | seconds with start and tuning |"
    echo "| --- | --- | --- | --- | --- |"
} | tee "$out/gpu.md"
: > "$out/smi"
row "training step, width 64, batch 256, 32 px" --what step --width 64 --batch 256 --size 32
row "training step, width 64, batch 256, 224 px" --what step --width 64 --batch 256 --size 224
methods="moco-v2 byol msf rotnet mae simclr swav dino jigsaw simsiam barlow-twins vicreg moco-v3 simclr-v2 deepcluster-v2"
for method in ${METHODS:-$methods}; do
    # Jigsaw cuts its image in nine.
    side=32; [ "$method" = jigsaw ] && side=48
    row "$method, width 64, batch 256, $side px" --what "$method" --width 64 --batch 256 --size $side --steps 8
done
for side in 32 224; do
    row "moco-v2 in bf16, width 64, batch 256, $side px" --what moco-v2 --precision bf16 --width 64 --batch 256 --size $side --steps 8
done
for side in 32 224; do
    [ $SECONDS -gt $((limit - 10)) ] && { left+=("views of $side px"); continue; }
    views=$(within "${ROW:-120}" "$data_speed" --what view --size $side 2> /dev/null | tail -1 | figure images_per_s)
    # Two views an image.
    need=$(product "${rates[moco-v2 in bf16, width 64, batch 256, $side px]:-}" 2)
    echo "| MoCo v2 views of $side px on one core; $threads cores make at most $(product "$views" "$threads"), the training in bf16 takes $need | ${views:--} | - | - | - |" | tee -a "$out/gpu.md"
done
if python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
    for what in step moco-v2; do
        for side in 32 224; do
            [ $SECONDS -gt $((limit - 10)) ] && { left+=("PyTorch $what $side"); continue; }
            within "${ROW:-120}" python3 "$here/torch_gpu.py" --what $what --size $side | while read -r line; do
                precision=$(grep -o '"precision": "[a-z0-9]*"' <<< "$line" | cut -d'"' -f4)
                echo "| PyTorch $precision, $what, width 64, batch 256, $side px | $(figure images_per_s <<< "$line") | - | $(figure memory_mb <<< "$line") | - |"
            done | tee -a "$out/gpu.md"
        done
    done
else
    echo "no PyTorch with a GPU here: no peer was measured" | tee -a "$out/gpu.md"
fi
# Last, because some of them may not fit in the limit.
for method in ${LARGE:-$methods}; do
    row "$method, width 64, batch 256, 224 px" --what "$method" --width 64 --batch 256 --size 224 --steps 4
done
[ ${#left[@]} -eq 0 ] || printf 'left out after %s s: %s\n' "$limit" "$(IFS=';'; echo "${left[*]}")" | tee -a "$out/gpu.md"
rm -f "$out/smi" "$out/error"
echo "done in $SECONDS s"
