#!/bin/sh
# Makes the secrets of docker-compose.yml that are not there yet: passwords nobody else has, one a file.
#
#   deploy/make-secrets.sh [--rabbitmq]      into the folder of TTA_SECRETS [.secrets]
#
# With --rabbitmq messages go over RabbitMQ (--profile rabbitmq). A file that is there is left as it is; to rotate one,
# remove it (redis_password together with redis_url and broker_url), run this again and recreate the containers.
set -eu
cd "$(dirname "$0")/.."
folder=${TTA_SECRETS:-.secrets}
mkdir -p "$folder"
chmod 700 "$folder" # containers of other users read the files, people of this host do not get at them
make() {
    [ -e "$folder/$1" ] || { printf %s "$2" >"$folder/$1" && chmod 444 "$folder/$1"; }
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
make redis_password "$(random)"
make rabbitmq_password "$(random)"
make flower_password "$(random)"
make grafana_password "$(random)"
make llm_api_key "" # with agents only: put the model's key there
make webhook_url "" # to be notified of the ends of runs: put the address there
make webhook_secret "$(random)"
make redis_url "redis://:$(cat "$folder/redis_password")@valkey:6379/0"
if [ "${1:-}" = --rabbitmq ]; then
    rm -f "$folder/broker_url"
    make broker_url "amqp://tta:$(cat "$folder/rabbitmq_password")@rabbitmq:5672//"
fi
make broker_url "$(cat "$folder/redis_url")"
echo "Secrets are in $folder; Flower's (user tta): $folder/flower_password"
