#!/usr/bin/env bash
# Brings the fleet of docker-compose.yml up on the loopback, hurts it while a run goes on, and takes it down again.
#
#   deploy/verify-compose.sh [--rabbitmq] [TTA]
#
# With --rabbitmq messages go over RabbitMQ. TTA: the tta command to submit with, outside the containers [.venv/bin/tta].
#
# Needs an engine >= 25 with Compose >= 2.26. Where there is no registry, images named like the ones in the files do:
# a Debian of debootstrap with python3, pip and git, imported as python:3.12-slim-bookworm, and one with valkey-server
# and valkey-cli as valkey/valkey:8.1-alpine; a Debian 13 with rabbitmq-server and a docker-entrypoint.sh that becomes the
# user rabbitmq as rabbitmq:4.1-management-alpine. An engine without bridge and iptables does, too:
#   dockerd --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false
set -euo pipefail
cd "$(dirname "$0")/.."
rabbitmq=
if [[ ${1:-} == --rabbitmq ]]; then
    rabbitmq=$1
    export COMPOSE_PROFILES=rabbitmq
    shift
fi
tta=$(realpath "${1:-.venv/bin/tta}")
work=$(mktemp -d)
export TTA_SECRETS=$work/secrets COMPOSE_PROJECT_NAME=tta-check
# shellcheck disable=SC2086 - none, or one
deploy/make-secrets.sh $rabbitmq >"$work/made"
compose() { docker compose -f docker-compose.yml -f deploy/loopback.yml "$@"; }
began=$SECONDS
say() { printf '[%3d s] %s\n' $((SECONDS - began)) "$*"; }
trap 'compose down --volumes --timeout 20 >/dev/null 2>&1; rm -rf "$work"; say down' EXIT

compose build --quiet worker-testing flower
say built
compose run --rm --no-deps --no-TTY --volume /dev/null:/run/secrets/flower_password flower 2>"$work/refused" &&
    { say "took no password for Flower"; exit 1; }
say "without a password: $(tail -2 "$work/refused")"
compose up --detach --no-build --wait --wait-timeout 240 >"$work/up" 2>&1 || { cat "$work/up"; compose logs; exit 1; }
say "up, all healthy:"
compose ps --format '        {{.Name}} {{.Status}}'

cp -r examples/calculator "$work/calculator"
git -C "$work/calculator" init -q && git -C "$work/calculator" add -A
git -C "$work/calculator" -c user.name=check -c user.email=check@localhost commit -qm calculator
# Not exported: Compose would take them for the containers', and make them anew.
from_outside() {
    TTA_BROKER_URL=$(sed 's/@[a-z]*:/@127.0.0.1:/' "$TTA_SECRETS/broker_url") \
        TTA_RESULT_URL=$(sed 's/@[a-z]*:/@127.0.0.1:/' "$TTA_SECRETS/redis_url") \
        TTA_STATE_DIR="$work/state" "$tta" "$@"
}
# Time enough for the search on a busy machine: it is the fleet that is looked at.
what=("$work/calculator/specs/calculator.md" --repo "$work/calculator" --target production --async --budget 60)

from_outside run "${what[@]}" --seed 1 --output "$work/run" >"$work/run.log" 2>&1 || { cat "$work/run.log"; exit 1; }
say "a run from outside is done: $(grep -E '^time ' "$work/run.log")"

run=$(from_outside submit "${what[@]}" --seed 2)
compose up --detach --no-build --wait --wait-timeout 240 --scale worker-openhands=3 >"$work/scale" 2>&1
say "scaled to $(compose ps --quiet worker-openhands | wc -l) openhands workers while the second run goes on"
compose kill --signal SIGKILL worker-openhands >/dev/null 2>&1
compose up --detach --no-build --scale worker-openhands=3 >/dev/null 2>&1
say "killed them all, and started them again"
for broker in ${rabbitmq:+rabbitmq} valkey; do
    compose kill --signal SIGKILL "$broker" >/dev/null 2>&1
    sleep 2
    compose up --detach --no-build --scale worker-openhands=3 >/dev/null 2>&1
    say "killed $broker, and started it again"
done
ended=3
while ((ended == 3)); do # the broker is still away
    sleep 1
    ended=0
    from_outside watch "$run" >"$work/watch.log" 2>&1 || ended=$?
done
((ended == 0)) || { cat "$work/watch.log"; exit 1; }
say "the second run is done all the same:"
from_outside status "$run" | sed 's/^/        /'

curl --silent --fail --user "tta:$(cat "$TTA_SECRETS/flower_password")" http://127.0.0.1:5555/api/tasks |
    python3 -c 'import collections, json, sys; print("        Flower:", dict(collections.Counter(t["state"] for t in json.load(sys.stdin).values())))'
curl --silent --fail http://127.0.0.1:9465/metrics | grep -E '^tta_(up|runs_total|redelivered_total|lost_total)' | sed 's/^/        /'
from_outside top --once | sed 's/^/        /'

asked=$SECONDS
compose stop worker-testing >/dev/null 2>&1
say "an idle worker stopped within $((SECONDS - asked)) s"
