"""What a query asks for: its terms, and how much each of them counts.

A question has words that only make it a question (`what does ... do`, `wie kann ich`). In prose
their rarity would tell, but manuals and articles ask no questions, so there they look rare and
important. Such words therefore count a quarter: enough for a query that has nothing else.

The words are listed by language, and the list that a query has the most words of is taken, so
that `die` is nothing special in an English query. A language without a list loses nothing.
"""

# ruff: noqa: RUF001 -- Russian words are to look Russian.

from collections.abc import Mapping
from functools import cache

from understudy.search.words import words

FUNCTION_WORD = 0.25

_ENGLISH = """
    a about an and any are as at be been being between but by can could did do does during each for
    from had has have he her here his how i if in into is it its may me might must my no not of on
    or our shall she should so some such than that the their them then there these they this those
    to us use used using was we were what when where which who whom whose why will with would you
    your"""
_GERMAN = """
    aber als am an auf aus bei beim bin bis da damit dann das dass dem den der des die dies diese
    diesem diesen dieser dieses doch du durch ein eine einem einen einer eines er es für gibt hat
    hatte ich ihr im in ist ja kann kein keine können man mein mit muss müssen nach nicht noch nur
    oder ob sein sich sie sind so soll um und unter vom von vor wann war waren warum was welche
    welchem welchen welcher welches wem wen wenn wer werden wessen wie wieso wieviel wir wird wo
    wofür woher wurde wurden zu zum zur über"""
_FRENCH = """
    a ai au aux avec c ce ces cet cette combien comme comment d dans de des dont du elle elles en
    est et eu faire fait faut il ils j je l la laquelle le lequel les lesquels leur lui m mais me
    mon n ne nous on ont ou où par pas peut peux plus pour pourquoi puis qu quand que quel quelle
    quelles quels qui quoi s sa se ses si son sont sur t tu un une vous y à été être"""
_SPANISH = """
    a al como con cual cuales cuando cuanta cuantas cuanto cuantos cuál cuáles cuándo cuánto
    cuántos cómo de del donde dónde e el ella ellos en entre era es esta este esto están está fue
    fueron ha hacer han hay la las le les lo los me mi no o para pero por porque puede puedo que
    quien quienes quién quiénes qué se ser si sin sobre son su sus tiene un una uno y ya"""
_ITALIAN = """
    a ad agli ai al alla alle anche c che chi ci come con cosa cui da dal dalla dei del della delle
    di dove e ed era fa gli ha hanno i il in io l la le lo ma mi nel nella non o per perché più può
    posso qual quale quali quando quanta quante quanti quanto questa questo si sono su sua suo
    sulla tra un una uno è"""
_PORTUGUESE = """
    a ao aos as com como da das de do dos e ela ele em entre era essa esse esta este eu foi foram
    há isso já mais mas me na nas no nos não o onde os ou para pela pelo por porque posso pode qual
    quais quando quanto quantos que quem se seu sua são ser sobre um uma é"""
_DUTCH = """
    aan al als bij dan dat de der deze die dit door een en er geen had heb hebben heeft hem het hij
    hoe hoeveel hun ik in is je kan kunnen maar me met mijn moet na naar niet of om ons ook op over
    te tot u uit van voor waar waarom wanneer waren was wat we welk welke werd wie wij worden wordt
    ze zich zij zijn zo"""
_RUSSIAN = """
    а без был была были было быть в вы где да для до его ее если есть еще же за и из или им их к
    как какая какие каким какими каких какого какое какой каком какую когда кого кому который кто
    куда ли мне можно мы на над не него нее нет ни но о об он она они от по почему при с сколько
    со так такое то того только тот ты у чего чем что чтобы это этой этом этот я"""


@cache
def _languages() -> list[frozenset[str]]:
    """The function words of each language, as terms."""
    lists = (
        _ENGLISH,
        _GERMAN,
        _FRENCH,
        _SPANISH,
        _ITALIAN,
        _PORTUGUESE,
        _DUTCH,
        _RUSSIAN,
    )
    return [frozenset(words(language)) for language in lists]


def asked(query: str) -> Mapping[str, float]:
    """The terms of a query and the weight of each, which is the number of times it is there."""
    terms = words(query)
    language = max(_languages(), key=lambda known: sum(term in known for term in terms))
    found: dict[str, float] = {}
    for term in terms:
        found[term] = found.get(term, 0.0) + (FUNCTION_WORD if term in language else 1.0)
    return found
