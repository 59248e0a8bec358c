# Installs clients at the versions of their manifests, sourced by run.sh and run-rocketmq.sh.
#
# Wants: $here, $cache. Gives install_client NAME, which sets `version`, `command` (an array to which a verb and its arguments are
# added), `stores_once` (whether the producer is idempotent by default) and `kinds` (of consumers of RocketMQ), or says in a sentence what is
# missing.

all_clients=(kafka-console kafka-verifiable kcat confluent-kafka aiokafka franz-go kafkajs java)
all_rocketmq_clients=(rocketmq-java rocketmq-go rocketmq-python rocketmq-node rocketmq-rust)

install_client() {
  stores_once=no
  kinds=(push simple)
  case $1 in
    kafka-console)
      stores_once=yes
      install_maven cli && command=(env "CLASSPATH=$cache/cli/lib/*" bash "$here/cli/console.sh") ;;
    kafka-verifiable)
      install_maven cli && command=(env "CLASSPATH=$cache/cli/lib/*" bash "$here/cli/verifiable.sh") ;;
    kcat)
      needs kcat "kcat" || return
      version=$(kcat -V | sed -n 's/^Version \([^ ]*\) .*librdkafka \([^ ]*\) .*/\1 (librdkafka \2)/p')
      command=(bash "$here/kcat/client.sh") ;;
    confluent-kafka | aiokafka)
      version=$(sed -n "s/^$1==//p" "$here/python/requirements.txt")
      install_python python && command=("$cache/python/bin/python" "$here/python/${1%-kafka}_client.py") ;;
    franz-go)
      stores_once=yes
      install_go franz franz-go && command=("$cache/franz/client") ;;
    kafkajs)
      install_npm kafkajs && command=(env "NODE_PATH=$cache/kafkajs/node_modules" KAFKAJS_NO_PARTITIONER_WARNING=1
        node "$here/kafkajs/client.js") ;;
    java)
      stores_once=yes
      install_maven java && javac -cp "$cache/java/lib/*" -d "$cache/java/classes" "$here/java/Client.java" &&
        command=(java -cp "$cache/java/classes:$cache/java/lib/*" Client) ;;
    rocketmq-java)
      install_maven rocketmq/java &&
        javac -cp "$cache/rocketmq/java/lib/*" -d "$cache/rocketmq/java/classes" "$here"/rocketmq/java/*.java &&
        command=(java -Xmx192m -XX:TieredStopAtLevel=1 -Drocketmq.log.root=. -cp "$cache/rocketmq/java/classes:$cache/rocketmq/java/lib/*"
          Client) ;;
    rocketmq-go)
      install_go rocketmq/go golang/v5 && command=("$cache/rocketmq/go/client") ;;
    rocketmq-python)
      version=$(sed -n "s/^rocketmq-python-client==//p" "$here/rocketmq/python/requirements.txt")
      install_python rocketmq/python && command=("$cache/rocketmq/python/bin/python" "$here/rocketmq/python/client.py") ;;
    rocketmq-node)
      install_npm rocketmq/node && command=(env "NODE_PATH=$cache/rocketmq/node/node_modules" node "$here/rocketmq/node/client.js") ;;
    rocketmq-rust)
      kinds=(simple)
      install_cargo rocketmq/rust rocketmq && command=("$cache/rocketmq/rust/release/client") ;;
  esac
}

# Each takes the directory of the manifest, which is also that in the cache.
#
# The jars of a pom.xml, with what they need.
install_maven() {
  version=$(sed -n 's:.*<client.version>\(.*\)</client.version>.*:\1:p' "$here/$1/pom.xml")
  needs javac "a JDK, version 17 or newer," && needs mvn "Maven" || return
  is_current "$1" "$here/$1/pom.xml" && return
  fresh "$1" && mvn -q -B -Dstyle.color=never "-Dmaven.repo.local=$cache/m2" -f "$here/$1/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$cache/$1/lib" && set_current "$1" "$here/$1/pom.xml"
}

install_python() {
  needs python3 "Python, version 3.11 or newer," || return
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python must be version 3.11 or newer, and is $(python3 -V)." >&2
    return 1
  fi
  is_current "$1" "$here/$1/requirements.txt" && return
  fresh "$1" && python3 -m venv "$cache/$1" &&
    "$cache/$1/bin/pip" install -q --cache-dir "$cache/pip" -r "$here/$1/requirements.txt" &&
    set_current "$1" "$here/$1/requirements.txt"
}

# install_go DIRECTORY MODULE: Go itself knows what is up to date; the module's name ends with MODULE.
install_go() {
  version=$(sed -n "s:.*$2 v\\([^ ]*\\)\$:\\1:p" "$here/$1/go.mod")
  needs go "Go" && mkdir -p "$cache/$1" && (cd "$here/$1" &&
    GOMODCACHE=$cache/go/mod GOCACHE=$cache/go/build GOFLAGS="-modcacherw ${GOFLAGS:-}" go build -o "$cache/$1/client" .)
}

# install_cargo DIRECTORY CRATE: cargo itself knows what is up to date.
install_cargo() {
  version=$(sed -n "s/^$2 = \"\(.*\)\"\$/\1/p" "$here/$1/Cargo.toml")
  needs cargo "Rust" && cargo build -q --release --locked --manifest-path "$here/$1/Cargo.toml" --target-dir "$cache/$1"
}

install_npm() {
  version=$(sed -n '/"dependencies"/,/}/s/.*": "\(.*\)"$/\1/p' "$here/$1/package.json")
  needs node "Node.js" && needs npm "npm" || return
  is_current "$1" "$here/$1/package.json" && return
  fresh "$1" && cp "$here/$1/package.json" "$cache/$1" && (cd "$cache/$1" &&
    npm install --silent --no-audit --no-fund --cache "$cache/npm") && set_current "$1" "$here/$1/package.json"
}

needs() { command -v "$1" > /dev/null || { echo "$2 is not installed: there is no \`$1\` on the PATH." >&2 && false; }; }

# What was installed from this very manifest is kept.
is_current() { cmp -s "$2" "$cache/$1/.manifest"; }
set_current() { cp "$2" "$cache/$1/.manifest"; }
fresh() { rm -rf "${cache:?}/$1" && mkdir -p "$cache/$1"; }
