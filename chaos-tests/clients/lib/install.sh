# Installs clients at the versions of their manifests, sourced by run.sh.
#
# Wants: $here, $cache. Gives install_client NAME, which sets `version`, `command` (an array to which `produce …` or `consume …` is
# added) and `stores_once` (whether the producer is idempotent by default), or says in a sentence what is missing.

all_clients=(kafka-console kafka-verifiable kcat confluent-kafka aiokafka franz-go kafkajs java)

install_client() {
  stores_once=no
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
      install_python && command=("$cache/python/bin/python" "$here/python/${1%-kafka}_client.py") ;;
    franz-go)
      stores_once=yes
      install_franz && command=("$cache/franz/client") ;;
    kafkajs)
      install_kafkajs && command=(env "NODE_PATH=$cache/kafkajs/node_modules" KAFKAJS_NO_PARTITIONER_WARNING=1
        node "$here/kafkajs/client.js") ;;
    java)
      stores_once=yes
      install_maven java && javac -cp "$cache/java/lib/*" -d "$cache/java/classes" "$here/java/Client.java" &&
        command=(java -cp "$cache/java/classes:$cache/java/lib/*" Client) ;;
  esac
}

# Kafka's jars, with what they need.
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
  is_current python "$here/python/requirements.txt" && return
  fresh python && python3 -m venv "$cache/python" &&
    "$cache/python/bin/pip" install -q --cache-dir "$cache/pip" -r "$here/python/requirements.txt" &&
    set_current python "$here/python/requirements.txt"
}

# Go itself knows what is up to date.
install_franz() {
  version=$(sed -n 's:.*franz-go v\([^ ]*\)$:\1:p' "$here/franz/go.mod")
  needs go "Go" && mkdir -p "$cache/franz" && (cd "$here/franz" &&
    GOMODCACHE=$cache/go/mod GOCACHE=$cache/go/build GOFLAGS="-modcacherw ${GOFLAGS:-}" go build -o "$cache/franz/client" .)
}

install_kafkajs() {
  version=$(sed -n 's/.*"kafkajs": "\(.*\)"$/\1/p' "$here/kafkajs/package.json")
  needs node "Node.js" && needs npm "npm" || return
  is_current kafkajs "$here/kafkajs/package.json" && return
  fresh kafkajs && cp "$here/kafkajs/package.json" "$cache/kafkajs" && (cd "$cache/kafkajs" &&
    npm install --silent --no-audit --no-fund --cache "$cache/npm") && set_current kafkajs "$here/kafkajs/package.json"
}

needs() { command -v "$1" > /dev/null || { echo "$2 is not installed: there is no \`$1\` on the PATH." >&2 && false; }; }

# What was installed from this very manifest is kept.
is_current() { cmp -s "$2" "$cache/$1/.manifest"; }
set_current() { cp "$2" "$cache/$1/.manifest"; }
fresh() { rm -rf "${cache:?}/$1" && mkdir -p "$cache/$1"; }
