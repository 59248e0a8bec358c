# numbers COUNT RATE: 0, 1, … a line each, RATE a second, for programs that read what they produce.
numbers() {
  local begin=${EPOCHREALTIME//[.,]/} next=0 due
  while ((next < $1)); do
    sleep 0.05
    due=$(((${EPOCHREALTIME//[.,]/} - begin) * $2 / 1000000))
    ((due < $1)) || due=$1
    ((due > next)) && seq "$next" $((due - 1))
    next=$due
  done
}
