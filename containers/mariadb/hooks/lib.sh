# shellcheck shell=bash
# What the MariaDB hooks share: one client process per hook, the facts we keep on disk, the
# configuration. Sourced, never run: it is not executable, so it is no hook.
#
# Secrets: only read from files, only sent through the client's standard input or an option file of
# mode 0600. Nothing here may put one into an argument, the environment or a log line.

set -uo pipefail
umask 077

: "${LICTOR_NODE:?}" "${LICTOR_DATA_DIR:?}" "${LICTOR_STATE_DIR:?}" "${LICTOR_APP_PORT:?}"
# Whatever is inherited may not be ours to write, and what MariaDB's tools put there is as big as data.
export TMPDIR=$LICTOR_STATE_DIR

readonly DONE=0 FAILED=1 DIVERGED=3 STOP_ME=4 AGAIN=75
readonly DATA=$LICTOR_DATA_DIR STATE=$LICTOR_STATE_DIR
readonly CNF=$STATE/my.cnf
# One GTID domain for the whole cluster: `order` is the sequence number in it.
readonly DOMAIN=1
# A commit waits this long for its acknowledgement: ten years, so the engine's own fall-back to
# asynchronous never happens. The leader shrinks the sync set instead, and writes that down first.
readonly SEMI_SYNC_TIMEOUT_MS=315360000000

say() { printf '%s\n' "$*"; }
die() { local code=$1; shift; printf '%s\n' "$*" >&2; exit "$code"; }

# ---- facts on disk: $STATE/mariadb.state, lines of key=value, replaced whole and fsynced ----
# epoch   highest epoch this node promoted or replicated under; older ones are refused
# role    primary | replica: what it last was
# acks    LICTOR_SYNC_ACKS last in force while primary
# source  host:port the relay log comes from
S_EPOCH=0 S_ROLE=none S_ACKS=0 S_SOURCE=
state_load() {
    local key value
    [[ -r $STATE/mariadb.state ]] || return 0
    while IFS='=' read -r key value; do
        case $key in
            epoch) S_EPOCH=$value ;;
            role) S_ROLE=$value ;;
            acks) S_ACKS=$value ;;
            source) S_SOURCE=$value ;;
        esac
    done <"$STATE/mariadb.state"
}
STATE_WAS=
state_text() { printf -v "$1" 'epoch=%s\nrole=%s\nacks=%s\nsource=%s\n' "$S_EPOCH" "$S_ROLE" "$S_ACKS" "$S_SOURCE"; }
# Written only when it changed: a hook that has nothing to record pays nothing.
state_save() {
    local text
    state_text text
    [[ $text != "$STATE_WAS" ]] || return 0
    printf '%s' "$text" >"$STATE/mariadb.state.new" && sync "$STATE/mariadb.state.new" \
        && mv -f "$STATE/mariadb.state.new" "$STATE/mariadb.state" && sync "$STATE" \
        || die $FAILED "cannot record $STATE/mariadb.state"
    STATE_WAS=$text
}
state_load
state_text STATE_WAS

# ---- the local server ----
# A socket's path may have 107 bytes. A state directory too deep for that gets a private one in
# /tmp.
SOCKET=$STATE/mysqld.sock
if (( ${#SOCKET} > 100 )); then
    [[ -r $STATE/socket-dir ]] && read -r SOCKET_DIR <"$STATE/socket-dir"
    if [[ ! -d ${SOCKET_DIR:-} || ! -O ${SOCKET_DIR:-} ]]; then
        SOCKET_DIR=$(mktemp -d /tmp/lictor-mariadb.XXXXXX) || die $FAILED "no directory for the socket"
        say "$SOCKET_DIR" >"$STATE/socket-dir"
    fi
    SOCKET=$SOCKET_DIR/mysqld.sock
fi

# The account of the operating system is the proof: unix_socket authentication, no password at all.
if (( EUID == 0 )); then ADMIN=root; else ADMIN=$(id -un); fi

# One client for the whole hook: starting one costs 8 ms, a statement in it well under 1 ms.
sql_open() {
    coproc CLIENT {
        exec mariadb --no-defaults --batch --raw --unbuffered --connect-timeout=2 \
            --socket="$SOCKET" --user="$ADMIN" 2>&1
    }
    # Duplicates: bash takes the originals away as soon as it notices the client's end.
    exec {SQL_OUT}<&"${CLIENT[0]}" {SQL_IN}>&"${CLIENT[1]}"
    trap '' PIPE
}
# sql TEXT: runs it. $OUT is what it printed (column names too: `show` needs them), $VALUE its last
# line. Fails with the server's error in $OUT.
sql() {
    local line
    OUT= VALUE=
    printf "%s;\nselect '--done--' as d;\n" "$1" >&"$SQL_IN" 2>/dev/null
    while IFS= read -r line <&"$SQL_OUT"; do
        if [[ $line == --done-- ]]; then
            OUT=${OUT%$'d\n'} OUT=${OUT%$'\n'} VALUE=${OUT##*$'\n'}
            return 0
        fi
        OUT+=$line$'\n'
    done
    OUT=${OUT%$'\n'}
    return 1
}
sql_or_die() { sql "$1" || die $FAILED "mariadb: $OUT"; }

# status: the server's and the replication's state in one round, into the variables below.
status() {
    local line key value
    READ_ONLY= BINLOG_POS= SLAVE_POS= SEMI_MASTER= SEMI_SLAVE= SERVER_ID=
    R_HOST= R_PORT= R_IO= R_SQL= R_IO_ERRNO=0 R_IO_ERROR= R_SQL_ERRNO=0 R_SQL_ERROR= R_IO_STATE=
    R_SQL_STATE= R_IO_POS= R_LAG= R_FILE= R_GTID= R_USER= R_RELAY_FILE= R_RELAY_POS=4
    sql_or_die "select concat_ws('|', 'VARS', @@read_only+0, @@gtid_binlog_pos, @@gtid_slave_pos,
        @@rpl_semi_sync_master_enabled+0, @@rpl_semi_sync_slave_enabled+0, @@server_id) as v;
        show all slaves status\\G"
    while IFS= read -r line; do
        if [[ $line == 'VARS|'* ]]; then
            IFS='|' read -r _ READ_ONLY BINLOG_POS SLAVE_POS SEMI_MASTER SEMI_SLAVE SERVER_ID <<<"$line"
            continue
        fi
        key=${line%%:*} value=${line#*: }
        [[ $line == *': '* ]] || value=
        case ${key##* } in
            Master_Host) R_HOST=$value ;;
            Master_Port) R_PORT=$value ;;
            Master_User) R_USER=$value ;;
            Relay_Log_File) R_RELAY_FILE=$value ;;
            Relay_Log_Pos) R_RELAY_POS=$value ;;
            Master_Log_File) R_FILE=$value ;;
            Slave_IO_Running) R_IO=$value ;;
            Slave_SQL_Running) R_SQL=$value ;;
            Slave_IO_State) R_IO_STATE=$value ;;
            Slave_SQL_Running_State) R_SQL_STATE=$value ;;
            Last_IO_Errno) R_IO_ERRNO=$value ;;
            Last_IO_Error) R_IO_ERROR=$value ;;
            Last_SQL_Errno) R_SQL_ERRNO=$value ;;
            Last_SQL_Error) R_SQL_ERROR=$value ;;
            Gtid_IO_Pos) R_IO_POS=$value ;;
            Using_Gtid) R_GTID=$value ;;
            Seconds_Behind_Master) R_LAG=$value ;;
        esac
    done <<<"$OUT"
}

# seq_of VAR "1-2-345,7-1-9": the sequence number in our domain, 0 if there is none.
seq_of() {
    local one
    printf -v "$1" '%s' 0
    for one in ${2//,/ }; do
        [[ $one == "$DOMAIN"-* ]] && printf -v "$1" '%s' "${one##*-}"
    done
    return 0
}
# order_of VAR: what this node holds, the relay log included, after `status`.
order_of() {
    local binlog slave received
    seq_of binlog "$BINLOG_POS"
    seq_of slave "$SLAVE_POS"
    seq_of received "$R_IO_POS"
    (( slave > binlog )) && binlog=$slave
    (( received > binlog )) && binlog=$received
    printf -v "$1" '%s' "$binlog"
}

# ms VAR: milliseconds that only grow within one hook; no fork.
ms() { local t=${EPOCHREALTIME/[.,]/}; printf -v "$1" '%s' $((t / 1000)); }

# quote VAR TEXT: as a string literal.
quote() {
    local text=${2//\\/\\\\}
    printf -v "$1" "'%s'" "${text//\'/\'\'}"
}
# secret VAR NAME: the file's first line.
secret() {
    local file=${LICTOR_SECRETS_DIR:?}/$2 value=
    [[ -r $file ]] || die $FAILED "no secret $2 in LICTOR_SECRETS_DIR"
    IFS= read -r value <"$file"
    [[ -n $value ]] || die $FAILED "the secret $2 is empty"
    printf -v "$1" '%s' "$value"
}

# option_file VAR HOST PORT: the text of an option file for a client that speaks to another node.
option_file() {
    local password
    secret password replication
    password=${password//\\/\\\\}
    printf -v "$1" '[client]\nhost=%s\nport=%s\nuser=replication\npassword="%s"\nprotocol=tcp\n' \
        "$2" "$3" "${password//\"/\\\"}"
}

# ---- after a restart: what the relay log still holds ----
# A replica acknowledges what is in its relay log. In GTID mode starting either thread while both
# are stopped throws that file away, so after a restart it is applied by file position first: else
# this node would know less than it has acknowledged. The position may be many
# transactions old: those that are applied already are refused by number (1950, strict mode) and
# skipped. Rows of its own would be taken for those: a replica at rest whose binary log is ahead, by
# its own id, of what it applied has some, and has diverged.
drain_relay() {
    local budget_ms=$1 from now skipped=0 state file step own applied
    [[ -n $R_HOST && $R_SQL == No && $R_IO == No && -n $R_RELAY_FILE ]] || return 0
    seq_of own "$BINLOG_POS"
    seq_of applied "$SLAVE_POS"
    # After a crash the binary log may be one ahead, with the primary's id on what it is ahead by.
    if (( own > applied )) && [[ ,$BINLOG_POS, == *",$DOMAIN-$SERVER_ID-$own,"* ]]; then
        die $DIVERGED "diverged: rows of its own up to $own, applied up to $applied"
    fi
    quote file "$R_RELAY_FILE"
    sql_or_die "change master to master_use_gtid=no, relay_log_file=$file, relay_log_pos=$R_RELAY_POS;
        start slave sql_thread"
    ms from
    while :; do
        status
        [[ $R_SQL_STATE == 'Slave has read all relay log'* ]] && break
        ms now
        (( now - from < budget_ms )) || break
        # No error yet: the thread is between stopping and saying why.
        if [[ $R_SQL == No && $R_SQL_ERRNO != 0 ]]; then
            (( R_SQL_ERRNO == 1950 && skipped < 10000 )) || break
            # Half the way to what is applied: numbers may have gaps, so all of it could be too far.
            step=1
            [[ $R_SQL_ERROR =~ GTID\ [0-9]+-[0-9]+-([0-9]+)\ .*GTID\ [0-9]+-[0-9]+-([0-9]+) ]] \
                && step=$(((BASH_REMATCH[2] - BASH_REMATCH[1]) / 2))
            (( step > 0 )) || step=1
            sql_or_die "set global sql_slave_skip_counter=$step; start slave sql_thread"
            skipped=$((skipped + 1))
        else
            sleep 0.01
        fi
    done
    state=$R_SQL_STATE
    if [[ $state != 'Slave has read all relay log'* ]]; then
        say "the relay log is not applied: ${R_SQL_ERROR:-$state}" >&2
        sql_or_die 'stop slave sql_thread'
        status
        return 1
    fi
    sql_or_die 'stop slave sql_thread; change master to master_use_gtid=slave_pos'
    status
}

# ---- who may acknowledge ----
# Semi-sync takes an acknowledgement from any replica that offers one; only members of the sync set
# count. So a replica acknowledges under an account of its own, `lictor_NODE`, which the primary can
# lock and cut off whatever has become of that node. Under the shared account `replication` no
# replica acknowledges.
# Existence and locks are each server's own affair and never in the binary log: a statement there
# would wait for the very acknowledgement that the hook is about to do without, and could be the one
# transaction that a demoted node has alone.

# own_accounts: ACCOUNTS[name@host, quoted]="locked how-it-identifies", SHARED=how `replication` does.
declare -A ACCOUNTS
own_accounts() {
    local account locked how
    ACCOUNTS=() SHARED=
    sql "select concat(quote(user), '@', quote(host)), ifnull(json_value(priv, '$.account_locked'), 0),
        concat(json_value(priv, '$.plugin'), ' using ', quote(json_value(priv, '$.authentication_string')))
        from mysql.global_priv
        where user like 'lictor|_%' escape '|' or (user = 'replication' and host = '%')" || return 1
    while IFS=$'\t' read -r account locked how; do
        case $account in
            "'replication'@'%'") SHARED=$how ;;
            \'*) ACCOUNTS[$account]="$locked $how" ;;
        esac
    done <<<"$OUT"
}
# own_account VAR NODE: its quoted name.
own_account() {
    [[ $2 =~ ^[A-Za-z0-9_.-]+$ ]] || die $FAILED "'$2' cannot be a node's name"
    printf -v "$1" "'lictor_%s'@'%%'" "$2"
}
# make_accounts NODE..: those that are missing or have another password than `replication`.
make_accounts() {
    local node account text=
    own_accounts || return 1
    [[ -n $SHARED ]] || { OUT='there is no account replication@%'; return 1; }
    for node; do
        own_account account "$node"
        [[ ${ACCOUNTS[$account]-} == ?" $SHARED" ]] && continue
        text+="grant replication slave on *.* to $account identified via $SHARED;"
    done
    [[ -z $text ]] || { sql "set sql_log_bin=0; ${text%;}" && own_accounts; }
}
# unlock_accounts [ACCOUNT..]: these, or all.
unlock_accounts() {
    local account text=
    (( $# > 0 )) || set -- "${!ACCOUNTS[@]}"
    for account; do
        [[ ${ACCOUNTS[$account]-} == 0\ * ]] || text+="alter user $account account unlock;"
    done
    [[ -z $text ]] || sql "set sql_log_bin=0; ${text%;}"
}

# ---- the configuration ----
# A server ignores events that carry its own id: it takes them for ones it has. A node whose data
# went back (a clone, a tail that was cut) needs what it once wrote itself, so it goes on under
# another id.
new_server_id() {
    local id
    id=$(od -An -N4 -tu4 /dev/urandom) || die $FAILED 'no random number'
    say $((id % 4294967290 + 1)) >"$STATE/server-id.new" && sync "$STATE/server-id.new" \
        && mv -f "$STATE/server-id.new" "$STATE/server-id" || die $FAILED "cannot record $STATE/server-id"
}
server_id() {
    [[ -s $STATE/server-id ]] || new_server_id
    read -r "$1" <"$STATE/server-id"
}
# write_config ROLE: $CNF from the facts. Ours come after the user's, so that they hold.
write_config() {
    local id bind='*' user_conf=
    server_id id
    [[ ${LICTOR_APP_ADDR:-} == 127.* ]] && bind=$LICTOR_APP_ADDR
    [[ -d /etc/mysql/lictor.d ]] && user_conf='!includedir /etc/mysql/lictor.d'
    # Proves to a cloning node on this machine that the files it sees are this server's.
    local mark
    mark=$(od -An -N12 -tx1 /dev/urandom) && mark=${mark// /}
    [[ -d $DATA ]] && say "$mark" >"$DATA/lictor-mark"
    # Not /tmp: a server that starts removes every temporary table it finds there, another server's
    # too.
    mkdir -p "$STATE/tmp" || die $FAILED "cannot write $STATE"
    # Checked: with half a configuration, or none, the server would start on somebody else's data.
    cat >"$CNF.new" <<C || die $FAILED "cannot write $CNF.new"
# Generated by the pre-start hook before every start. Put settings of your own into
# /etc/mysql/lictor.d/*.cnf; what stands here wins over them.
$user_conf
[mariadbd]
datadir = $DATA
socket = $SOCKET
pid-file = $STATE/mysqld.pid
tmpdir = $STATE/tmp
port = $LICTOR_APP_PORT
bind-address = $bind
skip-name-resolve
server-id = $id
report-host = ${LICTOR_APP_ADDR:-$LICTOR_NODE}
report-port = $LICTOR_APP_PORT
report-user = $mark

log-bin = bin
log-bin-index = bin.index
relay-log = relay
relay-log-index = relay.index
log-slave-updates = 1
binlog-format = ROW
gtid-domain-id = $DOMAIN
gtid-strict-mode = 1
sync-binlog = 1
innodb-flush-log-at-trx-commit = 1
default-storage-engine = InnoDB

# A start never writes and never connects: lictor promotes or lets it follow.
read-only = 1
skip-slave-start
init-rpl-role = $1
slave-net-timeout = 4
slave-max-statement-time = 0

# The sync hook turns the master's side on; the timeout has no way back to asynchronous.
rpl-semi-sync-master-enabled = 0
rpl-semi-sync-slave-enabled = 1
# A replica that stops receiving says so to its primary, for this many seconds if that is frozen: a
# take-over waits for it.
rpl-semi-sync-slave-kill-conn-timeout = 1
rpl-semi-sync-master-wait-point = AFTER_SYNC
rpl-semi-sync-master-wait-no-slave = 1
rpl-semi-sync-master-timeout = $SEMI_SYNC_TIMEOUT_MS
C
    mv -f "$CNF.new" "$CNF" || die $FAILED "cannot write $CNF"
}
