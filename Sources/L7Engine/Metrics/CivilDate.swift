/// A date of the Gregorian calendar from a day's number.
///
/// - Source: Howard Hinnant, days_from_civil and its inverse.
struct CivilDate {
    let year: Int
    /// From 1.
    let month: Int
    let day: Int
    /// 0 is Sunday.
    let weekday: Int

    init(daysSince1970 days: Int) {
        // Counted from 0000-03-01, so that a leap day ends its year.
        let shifted = days + 719_468
        let era = shifted / 146_097
        let ofEra = shifted - era * 146_097
        let yearOfEra = (ofEra - ofEra / 1460 + ofEra / 36524 - ofEra / 146_096) / 365
        let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * ofYear + 2) / 153
        day = ofYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        weekday = (days + 4) % 7
    }
}
